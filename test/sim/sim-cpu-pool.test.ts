import { simCpuPool } from '../../src/sim/sim-cpu-pool.ts';
import { cpuPoolContract } from '../contracts/cpu-pool.ts';

cpuPoolContract('the simulated pool', () => simCpuPool());
