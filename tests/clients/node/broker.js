// Starting, stopping and killing a broker process, and small things that every scenario needs.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const running = new Set();
process.on('exit', () => running.forEach((broker) => broker.process.kill('SIGKILL')));

/** One broker process with a data directory of its own; it keeps its port across restarts. */
export class Broker {
  directory = mkdtempSync(join(tmpdir(), 'oncelog-node-'));
  port = '0';
  process = undefined;

  get address() {
    return `127.0.0.1:${this.port}`;
  }

  async start() {
    const portFile = join(this.directory, 'port');
    const stderr = join(this.directory, 'stderr');
    const place = ['--data-dir', join(this.directory, 'data'), '--port-file', portFile];
    this.process = spawn(process.env.ONCELOG_BIN, ['serve', '--listen', this.address, ...place], {
      stdio: ['ignore', 'pipe', openSync(stderr, 'a')],
    });
    running.add(this);
    this.ended = once(this.process, 'exit');
    const ready = new Promise((resolve) => {
      createInterface(this.process.stdout).on('line', (line) => line.includes('ready') && resolve(true));
    });
    if (!(await Promise.race([ready, this.ended.then(() => false)]))) {
      throw new Error(`the broker ended before it was ready:\n${readFileSync(stderr, 'utf8').slice(-2000)}`);
    }
    this.port = readFileSync(portFile, 'utf8').trim().split(':').pop();
    await settle();
  }

  /** kill -9. */
  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
    running.delete(this);
  }

  async restart() {
    await this.kill();
    await this.start();
  }

  /** SIGTERM; removes the data. */
  async stop() {
    if (running.has(this)) {
      this.process.kill('SIGTERM');
      const overdue = setTimeout(() => this.process.kill('SIGKILL'), 20_000);
      await this.ended;
      clearTimeout(overdue);
      running.delete(this);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export const unique = (name) => `${name}-${randomBytes(4).toString('hex')}`;
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * With APACHE_KAFKA set, waits where Apache Kafka, unlike oncelog, answers before all is in place: before the markers of a
 * transaction are written, before the brokers know of a topic, before coordinators are loaded.
 */
export const settle = () => sleep(process.env.APACHE_KAFKA ? 1500 : 0);

/** Waits until the condition holds. */
export async function eventually(what, holds, seconds = 30) {
  const deadline = Date.now() + seconds * 1000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`not so within ${seconds} s: ${what}`);
    await sleep(30);
  }
}
