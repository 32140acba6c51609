//! One partition on disk: append, read, recover, retain; producer state and the aborted-transaction index.
