//! What a library may tell a person: findings about a text they wrote ([`Diagnostic`] with a
//! [`Span`]) and what is happening right now ([`Event`] through a [`Reporter`]).
//!
//! Invariant: nothing here knows how it is shown. No terminal, no colour, no width; renderers live
//! in the binary.

#![forbid(unsafe_code)]

mod diagnostic;
mod event;
mod suggest;

pub use diagnostic::{Diagnostic, Position, Severity, Span};
pub use event::{Discard, Event, LogStream, Outcome, Reporter, Unit, VertexId};
pub use suggest::did_you_mean;
