//! The commands, one file each: arguments whose comments are the help, and a function that runs
//! them.

use clap::Subcommand;

use crate::error::Result;
use crate::session::Session;

mod analyze;
mod base;
mod build;
mod builder;
mod cache;
mod cat;
mod completion;
mod copy;
mod cp;
mod delete;
mod demo;
mod diff;
mod digest;
mod explain;
mod export;
mod filters;
mod fmt;
mod history;
mod image;
mod images;
mod import;
mod info;
mod inspect;
mod lint;
mod load;
mod login;
mod ls;
mod lsp;
mod man;
mod manifest;
mod mount;
mod packages;
mod pull;
mod push;
mod registry;
mod removal;
mod rmi;
mod run;
mod save;
mod shown;
mod system;
mod tag;
mod tags;
mod umount;
mod version;
mod volume;

pub use save::to_file;

/// Every command. Only the one that is asked for is made ready: all of them take longer than many
/// of them do.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    Analyze(Box<analyze::Args>),
    Base(base::Args),
    Build(Box<build::Args>),
    Builder(builder::Args),
    Cache(cache::Args),
    Cat(cat::Args),
    Catalog(tags::CatalogArgs),
    Completion(completion::Args),
    Copy(Box<copy::Args>),
    Cp(cp::Args),
    Delete(delete::Args),
    Demo(demo::Args),
    Diff(diff::Args),
    Digest(digest::Args),
    Explain(explain::Args),
    Export(export::Args),
    Fmt(fmt::Args),
    History(history::Args),
    Image(image::Args),
    Images(images::Args),
    Import(import::Args),
    Info(info::Args),
    Inspect(inspect::Args),
    Lint(Box<lint::Args>),
    Load(load::Args),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Ls(ls::Args),
    Lsp(lsp::Args),
    Man(man::Args),
    Manifest(manifest::Args),
    Mount(mount::Args),
    Packages(packages::Args),
    Pull(pull::Args),
    Push(push::Args),
    Registry(registry::Args),
    Rmi(rmi::Args),
    Run(Box<run::Args>),
    Save(save::Args),
    System(system::Args),
    Tag(tag::Args),
    Tags(tags::TagsArgs),
    Umount(umount::Args),
    Version(version::Args),
    Volume(volume::Args),
    #[command(name = "__docs", hide = true)]
    Docs(man::DocsArgs),
}

/// Runs a command.
pub fn run(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Analyze(args) => analyze::run(session, *args),
        Command::Base(args) => base::run(session, args),
        Command::Build(args) => build::run(session, *args),
        Command::Builder(args) => builder::run(session, args),
        Command::Cache(args) => cache::run(session, args),
        Command::Catalog(args) => tags::catalog(session, args),
        Command::Copy(args) => copy::run(session, *args),
        Command::Delete(args) => delete::run(session, args),
        Command::Digest(args) => digest::run(session, args),
        Command::Manifest(args) => manifest::run(session, args),
        Command::Tags(args) => tags::tags(session, args),
        Command::Cat(args) => cat::run(session, args),
        Command::Cp(args) => cp::run(session, args),
        Command::Diff(args) => diff::run(session, args),
        Command::Ls(args) => ls::run(session, args),
        Command::Mount(args) => mount::run(session, args),
        Command::Packages(args) => packages::run(session, args),
        Command::Umount(args) => umount::run(session, args),
        Command::Completion(args) => completion::run(session, &args),
        Command::Fmt(args) => fmt::run(session, args),
        Command::History(args) => history::run(session, args),
        Command::Image(args) => image::run(session, args),
        Command::Images(args) => images::run(session, args),
        Command::Import(args) => import::run(session, args),
        Command::Info(args) => info::run(session, &args),
        Command::Inspect(args) => inspect::run(session, &args),
        Command::Lsp(args) => lsp::run(session, args),
        Command::Man(args) => man::run(session, args),
        Command::Rmi(args) => rmi::run(session, &args),
        Command::Run(args) => run::run(session, *args),
        Command::System(args) => system::run(session, args),
        Command::Tag(args) => tag::run(session, args),
        Command::Demo(args) => demo::run(session, args),
        Command::Explain(args) => explain::run(session, args),
        Command::Export(args) => export::run(session, args),
        Command::Lint(args) => lint::run(session, *args),
        Command::Load(args) => load::run(session, args),
        Command::Pull(args) => pull::run(session, args),
        Command::Push(args) => push::run(session, args),
        Command::Registry(args) => registry::run(session, args),
        Command::Save(args) => save::run(session, args),
        Command::Login(args) => login::login(session, args),
        Command::Logout(args) => login::logout(session, args),
        Command::Version(args) => version::run(session, args),
        Command::Volume(args) => volume::run(session, args),
        Command::Docs(args) => man::docs(session, args),
    }
}
