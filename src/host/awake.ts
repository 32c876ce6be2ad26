/**
 * A client that waits for each answer before it asks again leaves gaps of some ten microseconds.
 * Going to sleep in each of them costs more than the request: an idle processor takes 20 to 50 µs
 * to come back, above all in a virtual machine. So while requests come that quickly the event loop
 * goes on turning for a moment, as the kernel's haltpoll does; when they come slower, it sleeps.
 */
const AWAKE_MS = 0.1;

let lastMs = 0;
let awakeUntilMs = 0;
let turning = false;

/** To be called for each chunk that was received. */
export function stayAwake(): void {
  const nowMs = performance.now();
  const gapMs = nowMs - lastMs;
  lastMs = nowMs;
  if (gapMs > AWAKE_MS) return;
  awakeUntilMs = nowMs + AWAKE_MS;
  if (turning) return;
  turning = true;
  setImmediate(turn);
}

function turn(): void {
  turning = performance.now() < awakeUntilMs;
  if (turning) setImmediate(turn);
}
