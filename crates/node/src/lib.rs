//! Everything between a decoded frame and the logs.
