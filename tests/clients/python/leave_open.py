"""A producer that dies in the middle of a transaction: `leave_open.py ADDRESS TOPIC ID TIMEOUT_MS VALUE...`."""

import os
import signal
import sys

from clients import send, transactional

address, topic, transactional_id, timeout_ms = sys.argv[1:5]
producer = transactional(address, transactional_id, transaction_timeout_ms=int(timeout_ms))
producer.begin_transaction()
send(producer, topic, [value.encode() for value in sys.argv[5:]])
os.kill(os.getpid(), signal.SIGKILL)
