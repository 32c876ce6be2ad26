/** What a help text says behind its options, in pieces. */
export type Note =
  | { readonly kind: 'text'; readonly label?: string; readonly text: string }
  | { readonly kind: 'literal'; readonly label?: string; readonly lines: readonly string[] };

/** `Label: text`, at the beginning of a line; without text the label stands above literal lines. */
const LABELLED = /^([A-Z][A-Za-z]*(?: [a-z]+)*|bash|zsh): *(.*)$/;

/**
 * Reads the text that commander prints after the help: paragraphs, of which some have a label, and
 * indented lines that stay as they are.
 */
export function notesOf(help: string): Note[] {
  const notes: Note[] = [];
  let label: string | undefined;
  let text: string[] = [];
  let lines: string[] = [];
  const labelled = () => (label === undefined ? {} : { label });
  const settle = () => {
    if (text.length > 0) notes.push({ kind: 'text', ...labelled(), text: text.join(' ') });
    else if (lines.length > 0) notes.push({ kind: 'literal', ...labelled(), lines });
    if (text.length > 0 || lines.length > 0) label = undefined;
    [text, lines] = [[], []];
  };
  for (const line of help.split('\n')) {
    const [, name, rest = ''] = LABELLED.exec(line) ?? [];
    const indented = /^ {2,}\S/.test(line) && text.length === 0;
    if (line.trim() === '' || name !== undefined || (!indented && lines.length > 0)) settle();
    if (name !== undefined) {
      label = name;
      if (rest !== '') text.push(rest);
    } else if (line.endsWith(':') && !indented) {
      settle();
      notes.push({ kind: 'text', text: line });
    } else if (indented) lines.push(line.replace(/^ {2}/, ''));
    else if (line.trim() !== '') text.push(line.trim());
  }
  settle();
  return notes;
}
