//! Tar archives: headers, the writer of layers and the reader of whatever is called a tar.
//!
//! The writer makes POSIX ustar with PAX records only where ustar has no room, so that there is
//! one way to write each entry. The reader takes v7, ustar, PAX, GNU and GNU's sparse forms, as
//! the tools that make images write all of them. Neither knows what an entry means for a layer.

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use reader::{Entry, EntryKind, TarLimits, TarReader};
pub use sparse::WithHoles;
pub use writer::{EntryHeader, TarWriter};

pub(crate) use header::{BLOCK_SIZE, looks_like_tar};
