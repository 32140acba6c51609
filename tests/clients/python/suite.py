"""Runs every scenario of the Python clients against a broker and prints one line for each.

The broker is the binary ONCELOG_BIN, started and killed here, or the one at BOOTSTRAP; then scenarios that need a
broker of their own are skipped. Arguments select scenarios by a part of their name.
"""

import logging
import os
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import aiokafka_scenarios
import confluent_admin
import confluent_scenarios
from broker import Broker

AT_ONCE = 6
LIMIT_SECONDS = 90


def run(name, scenario, address):
    started = time.monotonic()
    broker = None
    try:
        if scenario.own_broker:
            broker = Broker()
            scenario(broker)
        else:
            scenario(address)
        failure = None
    except BaseException:
        failure = traceback.format_exc(limit=-4)
    finally:
        if broker:
            broker.stop()
    seconds = time.monotonic() - started
    with printing:
        print(f"{'FAIL' if failure else 'ok'} {name} ({seconds:.1f} s)", flush=True)
        if failure:
            print(failure, flush=True)
    return failure is None


def main():
    logging.disable(logging.CRITICAL)
    modules = {"confluent": [confluent_scenarios, confluent_admin], "aiokafka": [aiokafka_scenarios]}
    scenarios = [
        (f"python {client}: {name.replace('_', ' ')}", value)
        for client, parts in modules.items()
        for module in parts
        for name, value in vars(module).items()
        if hasattr(value, "own_broker") and value.__module__ == module.__name__
    ]
    wanted = sys.argv[1:]
    if wanted:
        scenarios = [s for s in scenarios if any(word in s[0] for word in wanted)]

    address = os.environ.get("BOOTSTRAP")
    shared = None
    if address:
        scenarios = [s for s in scenarios if not s[1].own_broker]
    else:
        shared = Broker()
        shared.start()
        address = shared.address

    # Daemon threads, so that a scenario that hangs fails by name and does not keep the run from ending.
    results = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        deadline = time.monotonic() + 2 * LIMIT_SECONDS
        futures = {name: pool.submit(run, name, scenario, address) for name, scenario in scenarios}
        for name, future in futures.items():
            try:
                results[name] = future.result(max(1, deadline - time.monotonic()))
            except TimeoutError:
                with printing:
                    print(f"FAIL {name} (did not end)", flush=True)
                results[name] = False
        if shared:
            shared.stop()
        failed = sum(not passed for passed in results.values())
        print(f"{len(results) - failed} passed, {failed} failed", flush=True)
        Broker.stop_all()
        os._exit(1 if failed or not results else 0)


printing = threading.Lock()

if __name__ == "__main__":
    main()
