import { readFileSync, writeFileSync } from 'node:fs';

/** USER_HZ: what /proc counts CPU time in, on every Linux that runs Node. */
const TICKS_PER_SECOND = 100;

/** User and system time of all threads so far; proc(5), /proc/PID/stat fields 14 and 15. */
export function cpuSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The second field is the program's name in brackets, and may hold spaces and brackets.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** `VmRSS` now, `VmHWM` at its highest since the last `resetPeak`; in bytes. */
export function memoryBytes(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const [, kib] = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text) ?? [];
  if (kib === undefined) throw new Error(`/proc/${pid}/status has no ${field}`);
  return Number(kib) * 1024;
}

export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** What all its writes have carried so far, sockets and log included; proc(5), /proc/PID/io. */
export function bytesWritten(pid: number): number {
  const text = readFileSync(`/proc/${pid}/io`, 'utf8');
  return Number(/^wchar: (\d+)$/m.exec(text)?.[1]);
}
