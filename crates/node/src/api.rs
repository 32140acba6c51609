//! One file for each API that is served: decoded request and context in, answer out.

