/** After it every promise that can settle has. */
export const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
