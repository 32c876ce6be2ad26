import { describe, expect, test } from 'vitest';
import type { EventView } from '../../src/app/admin-views.ts';
import { EVENT_LIMITS, Events, type Subscriber } from '../../src/app/events.ts';
import { silentLog } from '../../src/base/log.ts';
import { ManualClock } from '../nbd/manual-clock.ts';

/** Somebody who takes as many lines as he is told to. */
class Listener implements Subscriber {
  readonly name: string;
  readonly heard: EventView[] = [];
  takes: number;
  constructor(name = 'listener', takes = Number.POSITIVE_INFINITY) {
    this.name = name;
    this.takes = takes;
  }
  told(line: string): boolean {
    if (this.heard.length >= this.takes) return false;
    this.heard.push(JSON.parse(line));
    return true;
  }
  get names(): string[] {
    return this.heard.map(({ event }) => event);
  }
}

const events = (limits = {}) =>
  new Events(silentLog, new ManualClock(), { ...EVENT_LIMITS, ...limits });

describe('events', () => {
  test('go to the log, and from info on to whoever listens', () => {
    const logged: string[] = [];
    const log = { event: (_level: unknown, name: string) => void logged.push(name) };
    const hub = new Events(log, new ManualClock());
    const listener = new Listener();
    hub.subscribe(listener);
    hub.event('debug', 'a.detail');
    hub.event('info', 'a.thing', { bytes: 7n, vdi: 'demo' });
    hub.event('error', 'a.failure');
    expect(logged).toEqual(['a.detail', 'a.thing', 'a.failure']);
    hub.event('error', 'a.failure');
    expect(hub.counts()).toEqual([
      { event: 'a.thing', level: 'info', count: 1 },
      { event: 'a.failure', level: 'error', count: 2 },
    ]);
    listener.heard.pop();
    const timeMs = new ManualClock().wallMs();
    expect(listener.heard).toEqual([
      { seq: 1, timeMs, level: 'info', event: 'a.thing', facts: { bytes: '7', vdi: 'demo' } },
      { seq: 2, timeMs, level: 'error', event: 'a.failure', facts: {} },
    ]);
  });

  test('of before are told to who asks for them, in order, and to nobody else', () => {
    const hub = events();
    hub.event('info', 'first');
    hub.event('info', 'second');
    const [all, some, none] = [new Listener(), new Listener(), new Listener()];
    hub.subscribe(all, 0);
    hub.subscribe(some, 1);
    hub.subscribe(none);
    hub.event('info', 'third');
    expect(all.names).toEqual(['first', 'second', 'third']);
    expect(some.names).toEqual(['second', 'third']);
    expect(none.names).toEqual(['third']);
  });

  test('that are no longer known are counted', () => {
    const hub = events({ keptEvents: 3 });
    for (let count = 0; count < 10; count += 1) hub.event('info', `event-${count}`);
    const listener = new Listener();
    hub.subscribe(listener, 2);
    expect(listener.heard[0]).toMatchObject({ event: 'events.left-out', facts: { count: 5 } });
    expect(listener.names.slice(1)).toEqual(['event-7', 'event-8', 'event-9']);
  });

  test('take no more memory than is allowed, however long they are', () => {
    const hub = events({ keptCharacters: 2000, eventCharacters: 500 });
    for (let count = 0; count < 10; count += 1)
      hub.event('info', 'long', { text: 'x'.repeat(300) });
    hub.event('info', 'too-long', { text: 'x'.repeat(501) });
    const listener = new Listener();
    hub.subscribe(listener, 0);
    expect(listener.heard.length).toBeLessThan(8);
    expect(listener.heard.at(-1)).toMatchObject({
      event: 'too-long',
      facts: { tooLongCharacters: expect.any(Number) },
    });
  });

  test('a subscriber who does not take them is dropped, and the others are told so in order', () => {
    const hub = events();
    const [slow, other, too] = [new Listener('slow', 1), new Listener(), new Listener('too', 1)];
    for (const listener of [slow, other, too]) hub.subscribe(listener);
    for (const name of ['one', 'two', 'three']) hub.event('info', name);
    expect(slow.names).toEqual(['one']);
    const dropped = 'events.subscriber-dropped';
    expect(other.names).toEqual(['one', 'two', dropped, dropped, 'three']);
    expect(other.heard.slice(2, 4).map(({ facts }) => facts)).toEqual([
      { subscriber: 'slow' },
      { subscriber: 'too' },
    ]);
    expect(other.heard.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5]);
  });

  test('one who does not even take what was before is dropped at once', () => {
    const hub = events();
    hub.event('info', 'one');
    hub.event('info', 'two');
    const slow = new Listener('slow', 1);
    hub.subscribe(slow, 0);
    hub.event('info', 'three');
    expect(slow.names).toEqual(['one']);
  });

  test('end when the subscriber goes', () => {
    const hub = events();
    const listener = new Listener();
    const end = hub.subscribe(listener);
    hub.event('info', 'one');
    end();
    end();
    hub.event('info', 'two');
    expect(listener.names).toEqual(['one']);
  });
});
