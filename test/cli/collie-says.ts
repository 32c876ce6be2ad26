import { runCollie } from '../../src/cli/collie-main.ts';

/** What `collie` prints, for commands that ask no sheep. @throws Error with what it says instead */
export async function collieSays(...args: string[]): Promise<string> {
  let [out, err] = ['', ''];
  const status = await runCollie(args, {
    environment: {},
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    watched: false,
    columns: () => 80,
    screen: () => undefined,
    nowMs: () => 0,
    sleep: async () => undefined,
  });
  if (status !== 0) throw new Error(err);
  return out;
}
