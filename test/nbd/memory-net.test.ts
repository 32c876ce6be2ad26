import { netContract } from '../contracts/net.ts';
import { MemoryNet } from './memory-net.ts';

netContract('the net of the NBD tests', async () => {
  let count = 0;
  return {
    net: new MemoryNet(),
    address: () => `memory${count++}:0`,
    [Symbol.asyncDispose]: async () => undefined,
  };
});
