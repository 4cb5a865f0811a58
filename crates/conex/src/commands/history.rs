//! `conex history`, which is `conex image history`.

use conex_oci::{Digest, ImageConfig, Platform};
use conex_store::Store;
use conex_term::{Timestamp, human_size_short};
use serde_json::{Value, json};

use super::analyze::Sizes;
use super::shown::Length;
use crate::error::{CliError, Result};
use crate::session::Session;

const TABLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const TABLE_EXACT: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const HEADERS: [(&str, &str); 3] =
    [("ID", "IMAGE"), ("CreatedSince", "CREATED"), ("CreatedBy", "CREATED BY")];

/// How much of an instruction fits the table, as in Docker.
const CREATED_BY_CHARS: usize = 45;

/// Before 2000 a time of making is a convention, not a time: builds that give the same image for
/// the same inputs use one.
const CREATED_MIN: i64 = 946_684_800;

/// What stands where a step has no image of its own.
const MISSING: &str = "<missing>";

/// Show how an image came about
///
/// One line an instruction, the latest first. SIZE is that of the files in the instruction's layer,
/// as `conex analyze` counts it; the packed size has a field of its own. Sizes are found out once,
/// when a layer is first asked for. Steps before the last have no image of their own, so their
/// IMAGE is `<missing>`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex history app\n  conex history --no-trunc app\n  \
    conex history --format '{{.Size}}\\t{{.CreatedBy}}' app")]
pub struct Args {
    /// The image: a name, an ID, or the beginning of an ID
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Format the output: `table`, `json`, `table TEMPLATE` or a Go template (fields: `.ID`,
    /// `.CreatedSince`, `.CreatedAt`, `.CreatedBy`, `.Size`, `.PackedSize`, `.Comment`)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show sizes and ages in words; `--human=false` shows bytes and moments
    #[arg(
        short = 'H',
        long,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    human: bool,

    /// Show long values whole
    #[arg(long)]
    no_trunc: bool,

    /// The platform, of a multi-platform image
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,

    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let store = session.store()?;
    let (id, image) = find(store, &args.image, args.platform.as_ref())?;
    let config = store.image_config(&image)?;
    let layers = super::analyze::sizes(session, &image)?;
    let rows = Rows { session, human: args.human, length: Length::no_trunc(args.no_trunc) };
    let rows = rows.of(&id, &config, &layers);
    let format = args.format.filter(|format| !format.is_empty() && format != "table");
    let format = match format {
        None if args.quiet => Some("{{.ID}}".to_owned()),
        format => format,
    };
    let table = if args.human { TABLE } else { TABLE_EXACT };
    session.out(&crate::format::list(format.as_deref(), table, &HEADERS, &rows)?)
}

/// What a text means, and the single image of it for a platform.
fn find(store: &Store, text: &str, platform: Option<&Platform>) -> Result<(Digest, Digest)> {
    let record = store.resolve(text)?;
    let image = single(store, &record, platform)?;
    Ok((record.id, image.id))
}

/// The single image of a record: for the platform that is asked for; else for this machine's, or
/// the first that is here.
pub fn single(
    store: &Store,
    record: &conex_store::ImageRecord,
    platform: Option<&Platform>,
) -> Result<conex_store::ImageRecord> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let name = || {
        record.tags.first().map_or_else(|| record.id.short().into(), conex_oci::Reference::familiar)
    };
    let found = store.image_for(record, &wanted)?.filter(|image| {
        // A single image is taken whatever its platform, unless another one is asked for.
        platform.is_none() || image.platform.as_ref().is_none_or(|has| has.serves(&wanted))
    });
    if let Some(image) = found {
        return Ok(image);
    }
    if platform.is_none() {
        let entries = store.index_entries(&record.id)?;
        if let Some(id) = entries.into_iter().find_map(|entry| entry.image)
            && let Some(image) = store.image(&id)?
        {
            return Ok(image);
        }
    }
    Err(CliError::new(format!("image `{}` has nothing for `{wanted}` in the store", name())))
}

struct Rows<'s> {
    session: &'s Session,
    human: bool,
    length: Length,
}

impl Rows<'_> {
    /// The rows, the latest first. Layers beyond the history, of images whose makers wrote none,
    /// have rows without an instruction.
    fn of(&self, id: &Digest, config: &ImageConfig, layers: &[Sizes]) -> Vec<Value> {
        let mut layers = layers.iter();
        let mut rows: Vec<Value> = Vec::new();
        for step in &config.history {
            let layer = if step.empty_layer { None } else { layers.next() };
            let created = step.created.as_deref();
            rows.push(self.row(created, &step.created_by, &step.comment, layer));
        }
        rows.extend(layers.map(|layer| self.row(None, "", "", Some(layer))));
        if let Some(last) = rows.last_mut() {
            last["ID"] = Value::from(self.length.id(id));
        }
        rows.reverse();
        rows
    }

    fn row(
        &self,
        created: Option<&str>,
        created_by: &str,
        comment: &str,
        layer: Option<&Sizes>,
    ) -> Value {
        let size =
            |bytes: u64| if self.human { human_size_short(bytes) } else { bytes.to_string() };
        let created: Option<Timestamp> = created.and_then(|text| text.parse().ok());
        let created = created.filter(|time| time.unix_seconds() >= CREATED_MIN);
        let none = || "N/A".to_owned();
        let since = created.map_or_else(none, |time| conex_term::ago(time, self.session.now()));
        let text = created_by.replace('\t', " ");
        json!({
            "Comment": comment,
            "CreatedAt": created.map_or_else(none, Timestamp::rfc3339_seconds),
            "CreatedBy": self.length.text(&text, CREATED_BY_CHARS),
            "CreatedSince": since,
            "ID": MISSING,
            "PackedSize": layer.and_then(|layer| layer.packed).map_or_else(none, size),
            "Size": size(layer.map_or(0, |layer| layer.unpacked)),
        })
    }
}
