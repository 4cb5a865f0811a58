//! Every bound that this crate puts on text it did not write, each with its reason.

/// Largest Dockerfile read: 4 MiB, the largest message that BuildKit's client hands to its front
/// end, so no file that builds elsewhere is refused.
pub const DOCKERFILE_SIZE_MAX: usize = 4 << 20;

/// Longest physical line without its line end: 64 KiB less one, the reference parser's buffer.
pub const LINE_SIZE_MAX: usize = (64 << 10) - 1;

/// Most instructions in one file. Generated files of a few thousand exist; each instruction costs
/// history, and no image format or file system takes twenty thousand layers.
pub const INSTRUCTION_COUNT_MAX: usize = 20_000;

/// Most errors collected before the parse gives up: nobody reads more, and a binary file handed
/// over by mistake must not make a million.
pub const DIAGNOSTIC_COUNT_MAX: usize = 500;

/// Deepest `${a:-${b:-…}}`: expansion recurses, and a hostile file must not exhaust the stack.
pub const EXPANSION_DEPTH_MAX: usize = 64;

/// Largest result of one expansion: 4 MiB, as large as a whole file. `ENV A=$A$A`, repeated,
/// doubles each time and would otherwise fill the memory.
pub const EXPANSION_SIZE_MAX: usize = 4 << 20;

/// Longest pattern in `${v#pattern}` and its relatives, in characters: matching costs pattern
/// times value.
pub const PATTERN_SIZE_MAX: usize = 1024;

/// Largest ignore file: 1 MiB, some twenty thousand patterns.
pub const IGNORE_SIZE_MAX: usize = 1 << 20;

/// Most patterns in one ignore file: every path is tried against every pattern.
pub const IGNORE_PATTERN_COUNT_MAX: usize = 10_000;
