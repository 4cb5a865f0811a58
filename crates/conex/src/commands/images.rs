//! `conex images`, which is `conex image ls`.

use std::collections::BTreeMap;

use conex_dockerfile::Glob;
use conex_oci::Reference;
use conex_store::{ImageRecord, LabelFilter, Store, Timestamp};
use conex_term::{human_size, human_size_short};
use serde_json::{Value, json};

use super::filters::Filters;
use super::shown::{self, Length};
use crate::error::{CliError, Result, USAGE};
use crate::session::Session;

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const HEADERS: [(&str, &str); 2] = [("ID", "IMAGE ID"), ("CreatedSince", "CREATED")];

/// What stands where there is no name, tag or digest.
const NONE: &str = "<none>";

/// List images
///
/// CREATED is when an image came into this store: builds give images a fixed time of making, so
/// that the same inputs make the same image. SIZE is bytes on disk; layers that several images
/// share count for each of them (`conex system df -v` tells them apart).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex images\n  conex images 'app*' --digests\n  \
    conex images -q --filter dangling=true\n  \
    conex images --format '{{.Repository}}:{{.Tag}} {{.Size}}'")]
pub struct Args {
    /// Only images of this repository, or with this name (`*` and `?` are wildcards)
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,

    /// Show the single images of multi-platform images too
    #[arg(short, long)]
    all: bool,

    /// Show digests
    #[arg(long)]
    digests: bool,

    /// Only images that meet a condition: `dangling=true`, `label=NAME[=VALUE]`, `before=IMAGE`,
    /// `since=IMAGE`, `until=TIME`, `reference=PATTERN` (can be repeated)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,

    /// Format the output: `table`, `json`, `table TEMPLATE` or a Go template (fields: `.ID`,
    /// `.Repository`, `.Tag`, `.Digest`, `.CreatedSince`, `.CreatedAt`, `.Size`, `.VirtualSize`,
    /// `.SharedSize`, `.UniqueSize`, `.Containers`)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show long values whole
    #[arg(long)]
    no_trunc: bool,

    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let known = ["before", "dangling", "label", "label!", "reference", "since", "until"];
    let mut filters = Filters::parse(&args.filter, &known)?;
    if let Some(name) = &args.name {
        filters.add("reference", name);
    }
    let store = session.store()?;
    let selection = Selection::new(session, store, &filters, args.all)?;
    let format = args.format.filter(|format| !format.is_empty() && format != "table");
    let format = match format {
        None if args.quiet => Some("{{.ID}}".to_owned()),
        format => format,
    };
    let listing = Listing {
        session,
        store,
        length: Length::no_trunc(args.no_trunc),
        digests: args.digests || format.as_ref().is_some_and(|text| text.contains(".Digest")),
        sharing: format.as_ref().is_some_and(|text| text == "json" || mentions_sharing(text)),
    };
    let mut rows = Vec::new();
    for record in store.images()? {
        if let Some(record) = selection.taken(record) {
            rows.extend(listing.rows(&record)?);
        }
    }
    let table = if args.digests { TABLE_WITH_DIGESTS } else { TABLE };
    session.out(&crate::format::list(format.as_deref(), table, &HEADERS, &rows)?)
}

fn mentions_sharing(template: &str) -> bool {
    template.contains(".SharedSize") || template.contains(".UniqueSize")
}

/// Which images are shown.
struct Selection {
    /// Also those without a name that an index lists.
    all: bool,
    dangling: Option<bool>,
    labels: Vec<LabelFilter>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    patterns: Vec<Glob>,
}

impl Selection {
    fn new(session: &Session, store: &Store, filters: &Filters, all: bool) -> Result<Self> {
        let created = |name| -> Result<Option<Timestamp>> {
            let image = filters.last(name).map(|text| store.resolve(text)).transpose()?;
            Ok(image.map(|image| image.created))
        };
        let pattern = |text: &str| {
            Glob::new(text.as_bytes()).map_err(|error| {
                CliError::because(format!("`{text}` is no pattern"), error).with_code(USAGE)
            })
        };
        Ok(Self {
            all,
            dangling: filters.flag("dangling")?,
            labels: filters.labels(),
            before: created("before")?,
            since: created("since")?,
            until: filters.moment(session, "until")?,
            patterns: filters.all("reference").map(pattern).collect::<Result<_>>()?,
        })
    }

    /// The image with those of its names that are asked for, if it is.
    fn taken(&self, mut record: ImageRecord) -> Option<ImageRecord> {
        let is_inner = record.in_index && record.tags.is_empty();
        if is_inner && !self.all {
            return None;
        }
        let is_nameless = record.tags.is_empty() && record.repo_digests.is_empty();
        let is_taken = self.dangling.is_none_or(|wanted| wanted == (is_nameless && !is_inner))
            && self.before.is_none_or(|moment| record.created < moment)
            && self.since.is_none_or(|moment| record.created > moment)
            && self.until.is_none_or(|moment| record.created < moment)
            && self.labels.iter().all(|filter| filter.matches(&record.labels));
        if !is_taken {
            return None;
        }
        if !self.patterns.is_empty() {
            record.tags.retain(|name| self.is_named(name));
            record.repo_digests.retain(|name| self.is_named(name));
            if record.tags.is_empty() && record.repo_digests.is_empty() {
                return None;
            }
        }
        Some(record)
    }

    /// Whether a pattern is of the name, with or without its tag, in its short or its full form.
    fn is_named(&self, name: &Reference) -> bool {
        let forms = [name.familiar(), name.familiar_name(), name.to_string(), name.name()];
        self.patterns.iter().any(|glob| forms.iter().any(|form| glob.matches(form.as_bytes())))
    }
}

/// How an image becomes rows.
pub struct Listing<'s> {
    /// The session.
    pub session: &'s Session,
    /// The store.
    pub store: &'s Store,
    /// Whether IDs are cut.
    pub length: Length,
    /// Whether every digest has a row.
    pub digests: bool,
    /// Whether sizes of shared layers are looked up, which takes a statement an image.
    pub sharing: bool,
}

impl Listing<'_> {
    /// The rows of an image: one a tag, as Docker has them.
    pub fn rows(&self, record: &ImageRecord) -> Result<Vec<Value>> {
        let (shared, unique) = if self.sharing {
            let shared = self.store.shared_size(&record.id)?;
            let unique = record.size.saturating_sub(shared);
            (human_size(shared), human_size(unique))
        } else {
            ("N/A".to_owned(), "N/A".to_owned())
        };
        let created = shown::moment(record.created);
        let created_at = conex_term::Timestamp::from_unix(created.unix_seconds()).go_string();
        let row = |(repository, tag, digest): (String, String, String)| {
            json!({
                "Containers": "N/A",
                "CreatedAt": created_at,
                "CreatedSince": shown::ago(self.session, record.created),
                "Digest": digest,
                "ID": self.length.id(&record.id),
                "Repository": repository,
                "SharedSize": shared,
                "Size": human_size_short(record.size),
                "Tag": tag,
                "UniqueSize": unique,
                "VirtualSize": human_size(record.size),
            })
        };
        Ok(names(record, self.digests).into_iter().map(row).collect())
    }
}

/// Repository, tag and digest of each row of an image.
fn names(record: &ImageRecord, with_digests: bool) -> Vec<(String, String, String)> {
    let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in &record.repo_digests {
        let digest = name.digest().map_or(NONE.to_owned(), ToString::to_string);
        digests.entry(name.familiar_name()).or_default().push(digest);
    }
    let none = || NONE.to_owned();
    let mut rows = Vec::new();
    let mut tagged = Vec::new();
    for name in &record.tags {
        let repository = name.familiar_name();
        let tag = name.tag().map_or_else(none, str::to_owned);
        match digests.get(&repository).filter(|_| with_digests) {
            Some(digests) => {
                let row = |digest: &String| (repository.clone(), tag.clone(), digest.clone());
                rows.extend(digests.iter().map(row));
            }
            None => rows.push((repository.clone(), tag, none())),
        }
        tagged.push(repository);
    }
    for (repository, digests) in digests {
        if tagged.contains(&repository) {
            continue;
        }
        let shown = if with_digests { digests.len() } else { 1 };
        for digest in digests.into_iter().take(shown) {
            let digest = if with_digests { digest } else { none() };
            rows.push((repository.clone(), none(), digest));
        }
    }
    if rows.is_empty() {
        rows.push((none(), none(), none()));
    }
    rows
}
