//! `conex copy`.

use std::path::PathBuf;

use conex_remote::{CopyOptions, ImageFormat, Referrers};

use crate::error::{CliError, Doing as _, Result};
use crate::registry::Access;
use crate::session::Session;
use crate::transfer::{Place, Sides, parse_place, vertex_of};

/// Copy an image from one place to another
///
/// Between any two of: a registry (`docker://NAME`, or just `NAME`), the local store
/// (`store:NAME`), an OCI layout (`oci:DIR[:TAG]`) and archives (`oci-archive:FILE[:NAME]`,
/// `docker-archive:FILE[:NAME]`). From registry to registry nothing touches the disk; what the
/// destination has, or can mount from a neighbour, is not sent.
///
/// Manifests, configs and layers stay as they are, byte for byte, so digests never change, unless
/// `--format` asks for another form of manifests. An image of several platforms is copied whole
/// unless `--platform` picks one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex copy alpine:3 registry.example.com/mirror/alpine:3\n  \
    conex copy --all-tags --referrers ghcr.io/acme/app localhost:5000/app\n  \
    conex copy --format docker alpine:3 registry.example.com/old/alpine:3\n  \
    conex copy --platform linux/arm64 docker://ghcr.io/acme/app:1 oci-archive:app.tar\n  \
    conex copy store:app:1 oci:layout:1")]
pub struct Args {
    /// Where the image is
    #[arg(value_name = "SOURCE")]
    source: String,

    /// Where it goes
    #[arg(value_name = "DESTINATION")]
    destination: String,

    /// Copy all platforms, which is what happens anyway (a word of skopeo)
    #[arg(short, long, conflicts_with = "platform")]
    all: bool,

    /// Copy all tags of a repository or layout; neither place has a tag then
    #[arg(long)]
    all_tags: bool,

    /// Copy only this platform, of an image that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Copy what refers to the image too: signatures, bills of materials
    #[arg(long)]
    referrers: bool,

    /// Write manifests as OCI or as Docker (version 2, schema 2) has them; config, layers and the
    /// image's ID stay, the digest changes
    #[arg(short, long, value_enum, value_name = "FORMAT", conflicts_with = "referrers")]
    format: Option<Format>,

    /// Fail rather than change a digest, which happens with `--format` only (a word of skopeo)
    #[arg(long, conflicts_with = "format")]
    preserve_digests: bool,

    /// Write the digest of what was copied to a file; with `--all-tags`, a line each
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,

    /// Show only the digest
    #[arg(short, long)]
    quiet: bool,

    /// How often to try again what may pass
    #[arg(long, value_name = "COUNT")]
    retry_times: Option<u32>,

    #[command(flatten)]
    access: AccessArgs,
}

/// How manifests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// OCI image specification
    Oci,
    /// Docker, version 2, schema 2
    #[value(alias = "v2s2")]
    Docker,
}

impl From<Format> for ImageFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Oci => Self::Oci,
            Format::Docker => Self::Docker,
        }
    }
}

/// How the two registries are reached.
#[derive(Debug, clap::Args)]
struct AccessArgs {
    /// `false` takes any certificate at both sides, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,

    /// The same for the source alone
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    src_tls_verify: Option<bool>,

    /// The same for the destination alone
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    dest_tls_verify: Option<bool>,

    /// A file with credentials, instead of Docker's and Podman's
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,

    /// The same for the source alone
    #[arg(long, value_name = "FILE")]
    src_authfile: Option<PathBuf>,

    /// The same for the destination alone
    #[arg(long, value_name = "FILE")]
    dest_authfile: Option<PathBuf>,

    /// Credentials for the source; others can see them in the list of processes
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "src_no_creds")]
    src_creds: Option<String>,

    /// Credentials for the destination
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "dest_no_creds")]
    dest_creds: Option<String>,

    /// Ask the source without credentials
    #[arg(long)]
    src_no_creds: bool,

    /// Ask the destination without credentials
    #[arg(long)]
    dest_no_creds: bool,
}

impl AccessArgs {
    fn sides(&self, retries: Option<u32>) -> (Access, Access) {
        let source = Access {
            skip_verify: !self.src_tls_verify.unwrap_or(self.tls_verify),
            credentials: self.src_creds.clone(),
            auth_file: self.src_authfile.clone().or_else(|| self.authfile.clone()),
            anonymous: self.src_no_creds,
            retries,
        };
        let destination = Access {
            skip_verify: !self.dest_tls_verify.unwrap_or(self.tls_verify),
            credentials: self.dest_creds.clone(),
            auth_file: self.dest_authfile.clone().or_else(|| self.authfile.clone()),
            anonymous: self.dest_no_creds,
            retries,
        };
        (source, destination)
    }
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let (from, to) = (parse_place(&args.source)?, parse_place(&args.destination)?);
    let (source, destination) = args.access.sides(args.retry_times);
    let sides = Sides::new(session, (&from, &to), (&source, &destination))?;
    let pairs = if args.all_tags {
        refuse_tag(&args.source, &from)?;
        refuse_tag(&args.destination, &to)?;
        let pair = |tag: String| Ok((from.with_tag(&tag)?, to.with_tag(&tag)?));
        sides.tags(&from)?.into_iter().map(pair).collect::<Result<Vec<_>>>()?
    } else {
        vec![(from.clone(), to.clone())]
    };
    let platform = args.platform.as_deref().map(str::parse).transpose()?;
    let title = format!("Copying {from} to {to}");
    let progress = crate::progress::of_transfer(session, args.quiet, title);
    let mut digests = String::new();
    let mut shown = String::new();
    let mut copy_all = || -> Result<()> {
        for (at, (from, to)) in pairs.iter().enumerate() {
            let options = CopyOptions {
                platform: platform.clone(),
                referrers: if args.referrers { Referrers::Take } else { Referrers::Leave },
                format: args.format.map(Into::into),
                ..CopyOptions::new(conex_remote::Transfers::default().blobs, vertex_of(at))
            };
            let copied = crate::transfer::copy(&sides, from, to, &options, &progress)
                .map_err(|error| error.during(format!("cannot copy `{from}` to `{to}`")))?;
            let digest = copied.root.digest;
            digests.push_str(&format!("{digest}\n"));
            shown.push_str(&format!("{to}: digest: {digest}\n"));
        }
        Ok(())
    };
    let copied = copy_all();
    progress.finish()?;
    copied?;
    if let Some(file) = &args.digestfile {
        let text = if args.all_tags { digests.as_str() } else { digests.trim_end() };
        std::fs::write(file, text).doing(|| format!("cannot write `{}`", file.display()))?;
    }
    session.out(if args.quiet { &digests } else { &shown })
}

/// With `--all-tags`, a tag makes no sense.
fn refuse_tag(text: &str, place: &Place) -> Result<()> {
    let has_tag = match place {
        Place::Registry(_) => has_own_tag(text.trim_start_matches("docker://")),
        Place::Store(name) => has_own_tag(name),
        Place::Layout(_, tag) => tag.is_some(),
        Place::Archive(..) => false,
    };
    if has_tag {
        return Err(CliError::usage(format!("`{text}` has a tag, and `--all-tags` means all")));
    }
    Ok(())
}

/// Whether a name was written with a tag or digest; a port is none.
pub fn has_own_tag(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.contains([':', '@'])
}

#[cfg(test)]
mod tests {
    use super::has_own_tag;

    #[test]
    fn a_port_is_no_tag() {
        for (name, wanted) in [
            ("localhost:5000/app", false),
            ("localhost:5000/app:1", true),
            ("app@sha256:00", true),
            ("app", false),
        ] {
            assert_eq!(has_own_tag(name), wanted, "{name}");
        }
    }
}
