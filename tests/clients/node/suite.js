// Runs kafkajs against a broker and prints one line for each scenario.
//
// The broker is the binary ONCELOG_BIN, started and killed here, or the one at BOOTSTRAP; then scenarios that need a
// broker of their own are skipped. Arguments select scenarios by a part of their name.

import { Broker } from './broker.js';
import * as admin from './admin.js';
import * as groups from './groups.js';
import * as produce from './produce.js';
import * as transactions from './transactions.js';

const AT_ONCE = 8;
const LIMIT_MS = 90_000;

// A scenario is a function with a name in camel case; one with `ownBroker` is handed a broker that is not started yet.
function scenarios() {
  return [produce, transactions, groups, admin].flatMap((module) => Object.values(module)).map((run) => ({
    run,
    name: `node kafkajs: ${run.name.replace(/[A-Z]|\d+/g, ' $&').toLowerCase()}`,
  }));
}

async function runOne({ run, name }, address) {
  const started = Date.now();
  const own = run.ownBroker ? new Broker() : undefined;
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error('did not end')), LIMIT_MS).unref());
  let failure;
  try {
    await Promise.race([run(own ?? address), late]);
  } catch (error) {
    failure = error;
  }
  await own?.stop();
  console.log(`${failure ? 'FAIL' : 'ok'} ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  if (failure) console.log(failure.stack ?? failure);
  return failure === undefined;
}

async function main() {
  const wanted = process.argv.slice(2);
  let chosen = scenarios().filter(({ name }) => wanted.length === 0 || wanted.some((word) => name.includes(word)));
  let address = process.env.BOOTSTRAP;
  const shared = address ? undefined : new Broker();
  if (shared) {
    await shared.start();
    address = shared.address;
  } else {
    chosen = chosen.filter(({ run }) => !run.ownBroker);
  }
  const total = chosen.length;
  let passed = 0;
  // Those with a broker of their own take longest, so they start first.
  chosen.sort((a, b) => (b.run.ownBroker ?? 0) - (a.run.ownBroker ?? 0));
  const worker = async () => {
    while (chosen.length > 0) if (await runOne(chosen.shift(), address)) passed += 1;
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  await shared?.stop();
  console.log(`${passed} passed, ${total - passed} failed`);
  process.exit(passed === total && total > 0 ? 0 : 1);
}

await main();
