//! The words of the command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use conex_term::ColorChoice;

use crate::commands::Command;

/// Container images from one program, without a daemon: build, store, inspect, run.
#[derive(Debug, Parser)]
#[command(
    name = "conex",
    version,
    propagate_version = false,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Start here:\n  conex demo                     a tour on this machine's own files\n  \
                  conex build -t app .           build the Dockerfile of this folder\n  \
                  conex run --rm -it app sh      look around in the image"
)]
pub struct Cli {
    /// The folder of the store
    ///
    /// `/var/lib/conex` for root, `$XDG_DATA_HOME/conex` or `~/.local/share/conex` for others.
    /// `CONEX_ROOT` sets it too.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub root: Option<PathBuf>,

    /// When to use colour
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    color: Color,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// When to use colour.
    pub fn color(&self) -> ColorChoice {
        match self.color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}
