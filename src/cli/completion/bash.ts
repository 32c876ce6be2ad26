import type { CommandNode } from './command-tree.ts';
import { indented, placeCases, stepCases } from './shell-cases.ts';

/**
 * A program's completion for bash 4.4 or later, to be sourced. Names of VDIs are asked of the sheep
 * that the command line means; they are never given to `compgen -W`, which would run what is in them.
 */
export function bashCompletion(root: CommandNode): string {
  const { name } = root;
  return `# Completion of ${name} for bash, as this version of it prints it.
_${name}() {
  local command='' value='' positional=0 kind='' current last prefix='' word i
  local -a words=() address=() kinds=() flags=() subcommands=()
  COMPREPLY=()
  # Bash also breaks words at : = and @, which are parts of ours.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if ((i > 1)) && [[ $word == [:=@]* || \${COMP_WORDS[i - 1]} == *[:=@] ]]; then
      words[\${#words[@]} - 1]+=$word
    else
      words+=("$word")
    fi
  done
  current=\${words[\${#words[@]} - 1]}
  last=\${COMP_WORDS[COMP_CWORD]}
  # It replaces only what is behind the last of these, and an @ itself (it could begin a host name).
  [[ $last == [:=@] ]] && last=
  prefix=\${current%"$last"}
  prefix=\${prefix%@}
  for word in "\${words[@]:1:\${#words[@]} - 2}"; do
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
${indented(
  placeCases(root, (word) => word),
  2,
)}
  esac
  if [[ -n $value ]]; then
    kind=$value
  elif [[ $current == -* ]]; then
    kind="words \${flags[*]}"
  elif ((\${#subcommands[@]})); then
    kind="words \${subcommands[*]}"
  else
    kind=\${kinds[positional]-nothing}
  fi
  case "$kind" in
    'words '*) mapfile -t COMPREPLY < <(compgen -W "\${kind#words }" -- "$current") ;;
    file)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      ;;
    directory)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$current")
      ;;
    vdi | export)
      while IFS= read -r word; do
        [[ $kind == vdi && $word == *@* ]] && continue
        [[ $word == "$current"* ]] && COMPREPLY+=("$(printf %q "$word")")
      done < <(${vdiNames(name)})
      ;;
  esac
  ((\${#COMPREPLY[@]})) && COMPREPLY=("\${COMPREPLY[@]#"$prefix"}")
  return 0
}
complete -F _${name} ${name}
`;
}

/** Prints the names of VDIs and snapshots, one in a line; nothing if no sheep answers. */
export function vdiNames(program: string): string {
  const list = `command ${program} "\${address[@]}" vdi list --json 2>/dev/null`;
  return `${list} | sed -n 's/^ *"export": "\\(.*\\)",\\{0,1\\}$/\\1/p'`;
}
