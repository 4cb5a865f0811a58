//! Stubs.
use serde::{Deserialize, Serialize};

/// A stub.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stub {}
