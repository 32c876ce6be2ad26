import { nodeRandom } from '../../src/host/node-random.ts';
import { randomContract } from '../contracts/random.ts';

randomContract('the chance of this machine', nodeRandom);
