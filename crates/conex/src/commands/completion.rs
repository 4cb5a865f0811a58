//! `conex completion`: what shells need to complete commands and options.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Result;
use crate::session::Session;

/// Print what a shell needs to complete commands and options
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex completion bash > ~/.local/share/bash-completion/completions/conex\n  \
    conex completion zsh > ~/.zfunc/_conex\n  \
    conex completion fish > ~/.config/fish/completions/conex.fish"
)]
pub struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command.
pub fn run(session: &Session, args: &Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "conex", &mut script);
    session.out(&String::from_utf8_lossy(&script))
}
