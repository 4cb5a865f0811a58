//! Compression: what layers and archives come in, and what they are shipped in.
//!
//! Invariant of the encoders: the bytes depend on the input and the level, not on the number of
//! threads or the sizes of the writes. Invariant of the decoder: memory is bounded whatever the
//! stream says.

mod decode;
mod encode;
mod gzip;
mod inflate;
mod member;

pub use decode::{Decoder, Format, sniff};
pub use encode::{Encoded, Encoder, EncoderOptions};
pub use inflate::{Wrapping, inflate};
