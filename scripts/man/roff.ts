/** The page's lines, in the macros of man(7). Text comes in as it is and is escaped here. */
export class Roff {
  readonly #lines: string[] = [];

  constructor(name: string, section: number, date: string, source: string, manual: string) {
    const fields = [name.toUpperCase(), `${section}`, date, escaped(source), escaped(manual)];
    this.#lines.push('.\\" Made by "npm run shipped"; changes belong there.');
    this.#lines.push(`.TH ${fields.map((field) => `"${field}"`).join(' ')}`);
  }

  section(title: string): this {
    this.#lines.push(`.SH ${title.toUpperCase()}`);
    return this;
  }
  subsection(title: string): this {
    this.#lines.push(`.SS ${escaped(title)}`);
    return this;
  }
  paragraph(text: string): this {
    if (!this.#begun) this.#lines.push('.PP');
    this.#lines.push(...filled(text));
    return this;
  }
  /** The name, a dash and what it is, as `whatis` reads it. */
  name(name: string, what: string): this {
    this.#lines.push('.SH NAME', `${escaped(name)} \\- ${escaped(what)}`);
    return this;
  }
  /** A term in bold, with what is said of it. */
  term(term: string, text: string): this {
    this.#lines.push('.TP', `.B ${escaped(term)}`, ...filled(text));
    return this;
  }
  synopsis(program: string, rest: string): this {
    this.#lines.push('.SH SYNOPSIS', `.B ${escaped(program)}`, ...filled(rest));
    return this;
  }
  /** Lines as they are. */
  literal(lines: readonly string[]): this {
    if (!this.#begun) this.#lines.push('.PP');
    this.#lines.push('.RS 4', '.nf', ...lines.map(escaped), '.fi', '.RE');
    return this;
  }

  /** A heading is the last line: it begins a paragraph by itself. */
  get #begun(): boolean {
    return /^\.S[HS] /.test(this.#lines.at(-1) ?? '');
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`;
  }
}

/** A new line for each sentence, as the format wants it; none too long. */
function filled(text: string): string[] {
  const sentences = text
    .replaceAll(/\s+/g, ' ')
    .trim()
    .split(/(?<=[.;:]) (?=\S)/);
  return sentences.flatMap((sentence) => broken(escaped(sentence)));
}

function broken(line: string, width = 78): string[] {
  if (line.length <= width) return [line];
  const cut = line.lastIndexOf(' ', width);
  if (cut <= 0) return [line];
  return [line.slice(0, cut), ...broken(escapedStart(line.slice(cut + 1)), width)];
}

/** Backslashes, hyphens that are to be copied, and what would be a request at the start of a line. */
function escaped(text: string): string {
  return escapedStart(text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('"', '\\(dq'));
}
function escapedStart(line: string): string {
  return /^[.']/.test(line) ? `\\&${line}` : line;
}
