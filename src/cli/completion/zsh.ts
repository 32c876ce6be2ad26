import { vdiNames } from './bash.ts';
import type { CommandNode } from './command-tree.ts';
import { indented, placeCases, stepCases } from './shell-cases.ts';

/** A program's completion for zsh: `_NAME` in a folder of `fpath`, or sourced after `compinit`. */
export function zshCompletion(root: CommandNode): string {
  const { name } = root;
  return `#compdef ${name}
# Completion of ${name} for zsh, as this version of it prints it.
_${name}() {
  local command='' value='' kind='' current word
  integer positional=0
  local -a address kinds flags subcommands names
  current=\${words[CURRENT]}
  for word in "\${(@)words[2,CURRENT-1]}"; do
    if [[ -n $value ]]; then
      [[ $value == address ]] && address=(-a "$word")
      value=
      continue
    fi
    case "$command|$word" in
${indented(stepCases(root), 3)}
    esac
  done
  case "$command" in
${indented(placeCases(root, described), 2)}
  esac
  if [[ -n $value ]]; then
    kind=$value
  elif [[ $current == -* ]]; then
    _describe -o option flags
    return
  elif ((\${#subcommands})); then
    _describe command subcommands
    return
  else
    kind=\${kinds[positional + 1]:-nothing}
  fi
  case "$kind" in
    'words '*) compadd -- \${=kind#words } ;;
    file) _files ;;
    directory) _files -/ ;;
    vdi | export)
      names=("\${(@f)$(${vdiNames(name)})}")
      [[ $kind == vdi ]] && names=("\${(@)names:#*@*}")
      compadd -a names
      ;;
  esac
}
if [[ \${funcstack[1]} == _${name} ]]; then _${name} "$@"; else compdef _${name} ${name}; fi
`;
}

/** As _describe takes it: a colon ends the name. */
function described(name: string, description: string): string {
  return `${name.replaceAll(':', '\\:')}:${description}`;
}
