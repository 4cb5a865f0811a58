//! The parser: what it makes of scripts, where things stand, and that no text breaks it.

#![allow(clippy::unwrap_used)]

mod properties;
mod scripts;
