/**
 * Run by dead-peers.test.ts in a network of its own (`unshare -n`): serves one TCP connection to a
 * client in another network, lets the client vanish without a word, and prints how the connection
 * ended and after how many milliseconds. Argument: `silent`, or `sending` for one with data on its way.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { endWithDeadPeer } from '../../src/host/dead-peers.ts';

const [how] = process.argv.slice(2);
const ip = (...args: string[]) => execFileSync('ip', args);

const server = createServer();
const client = spawn('unshare', ['-n', process.execPath, '-e', 'process.stdin.resume()'], {
  stdio: ['pipe', 'ignore', 'inherit'],
});
const inClient = ['-t', `${client.pid}`, '-n'];
await once(client, 'spawn');
// The network of the client is its own once `unshare` has become node.
while (execFileSync('readlink', [`/proc/${client.pid}/ns/net`]).equals(ownNetwork())) {
  execFileSync('sleep', ['0.02']);
}
ip('link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far', 'netns', `${client.pid}`);
ip('addr', 'add', '10.99.0.1/30', 'dev', 'near');
ip('link', 'set', 'near', 'up');
execFileSync('nsenter', [...inClient, 'ip', 'addr', 'add', '10.99.0.2/30', 'dev', 'far']);
execFileSync('nsenter', [...inClient, 'ip', 'link', 'set', 'far', 'up']);
server.listen(0, '10.99.0.1');
await once(server, 'listening');
const { port } = server.address() as { port: number };
const dial = `require('net').connect(${port}, '10.99.0.1').resume()`;
const guest = spawn('nsenter', [...inClient, process.execPath, '-e', dial], { stdio: 'inherit' });
const [socket] = (await once(server, 'connection')) as [Socket];
endWithDeadPeer(socket, { askAfterMs: 1_000, overAfterMs: 2_000 });
const over = once(socket, 'error');
execFileSync('nsenter', [...inClient, 'ip', 'addr', 'flush', 'dev', 'far']);
const fromMs = performance.now();
if (how === 'sending') socket.write('a reply');
const [cause] = await over;
console.log(cause.code, Math.round(performance.now() - fromMs));
guest.kill('SIGKILL');
client.kill('SIGKILL');
server.close();

function ownNetwork(): Buffer {
  return execFileSync('readlink', [`/proc/${process.pid}/ns/net`]);
}
