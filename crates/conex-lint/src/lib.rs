//! conex-lint.
