/** One name that a source file imports. */
export interface ImportOf {
  readonly from: string;
  /** Gone at run time: `import type`, `export type`. */
  readonly typeOnly: boolean;
  readonly line: number;
}

/** A comment, or a string: whichever begins first hides the other. */
const COMMENT_OR_STRING =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g;

const STATIC =
  /(?<![.\w$])(?:import|export)\s+(type\s+)?(?:[\w$*{][^'";]*?[\s}*]from\s*)?['"]([^'"]+)['"]/g;
const DYNAMIC = /(?<![.\w$])(?:import|require)\s*\(\s*['"`]([^'"`]+)['"`]/g;
/** A worker's file, without its ending: that is taken from import.meta.url when it runs. */
const BESIDE = /new URL\(\s*['"`](\.{1,2}\/[^'"`$.]*)[^,]*,\s*import\.meta\.url/g;

const blank = (text: string) => text.replace(/[^\n]/g, ' ');

/** The text with comments blanked; every line and column stays where it was. */
function withoutComments(text: string): string {
  return text.replace(COMMENT_OR_STRING, (found) => (found.startsWith('/') ? blank(found) : found));
}

/** The text with comments and strings blanked, but for what stands in `${}`. */
export function codeOnly(text: string): string {
  return text.replace(COMMENT_OR_STRING, (found) => {
    if (!found.startsWith('`')) return blank(found);
    return found
      .split(/(\$\{[^}]*\})/)
      .map((piece) => (piece.startsWith('${') ? piece : blank(piece)))
      .join('');
  });
}

export function lineAt(text: string, at: number): number {
  return text.slice(0, at).split('\n').length;
}

/** Everything that `text` imports, in whichever form. */
export function importsOf(text: string): ImportOf[] {
  const code = withoutComments(text);
  const found: ImportOf[] = [];
  for (const match of code.matchAll(STATIC)) {
    const [, type, from = ''] = match;
    found.push({ from, typeOnly: type !== undefined, line: lineAt(code, match.index) });
  }
  for (const match of code.matchAll(DYNAMIC)) {
    found.push({ from: match[1] ?? '', typeOnly: false, line: lineAt(code, match.index) });
  }
  for (const match of code.matchAll(BESIDE)) {
    found.push({ from: `${match[1]}.ts`, typeOnly: false, line: lineAt(code, match.index) });
  }
  return found;
}
