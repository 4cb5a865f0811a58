//! `conex inspect`: everything that is known of images and volumes, in Docker's schema.

mod image;

use clap::ValueEnum;
use conex_oci::Platform;
use conex_store::{ErrorKind, Store, Volume};
use conex_term::{Template, TemplateOptions};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::rmi::Failures;
use super::shown;
use crate::error::{CliError, Result};
use crate::session::Session;

/// Show everything about images and volumes
///
/// A JSON list with an object for each name, as `docker inspect` gives it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex inspect app\n  conex inspect -f '{{.Id}}' app\n  \
    conex inspect -f '{{json .Config.Env}}' app\n  conex inspect --type volume data")]
pub struct Args {
    /// The images and volumes: names, IDs, or beginnings of IDs
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,

    /// Format the output: `json`, or a Go template (`{{.Config.User}}`)
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// Add what is measured: of images the bytes that are shared and that are not, of volumes
    /// their size and users
    #[arg(short, long)]
    size: bool,

    /// Only things of this type
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
}

/// Show everything about images
///
/// A JSON list with an object for each image, as `docker image inspect` gives it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex image inspect app\n  \
    conex image inspect --platform linux/arm64 -f '{{.Architecture}}' app")]
pub struct ImageArgs {
    /// The images: names, IDs, or beginnings of IDs
    #[arg(value_name = "IMAGE", required = true)]
    names: Vec<String>,

    /// Format the output: `json`, or a Go template (`{{.Config.User}}`)
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// The platform, of multi-platform images
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Image,
    Volume,
}

/// One thing: how it is printed, and what templates see.
pub struct Document {
    /// On several lines, indented as Docker indents.
    pretty: String,
    /// On one line.
    compact: String,
    /// With every field, for templates may ask for those that are not printed when empty.
    whole: Value,
}

impl Document {
    /// Prints a value with its fields in their order.
    fn new(value: &impl Serialize) -> Result<Self> {
        let failed = |error| CliError::because("cannot print a document", error);
        let mut pretty = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut output = serde_json::Serializer::with_formatter(&mut pretty, formatter);
        value.serialize(&mut output).map_err(failed)?;
        Ok(Self {
            pretty: String::from_utf8_lossy(&pretty).into_owned(),
            compact: serde_json::to_string(value).map_err(failed)?,
            whole: serde_json::to_value(value).map_err(failed)?,
        })
    }
}

/// Whether what takes measuring is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sizes {
    Measured,
    LeftOut,
}

/// Runs `conex inspect`.
pub fn run(session: &Session, args: &Args) -> Result<()> {
    let store = session.store()?;
    let sizes = if args.size { Sizes::Measured } else { Sizes::LeftOut };
    let format = args.format.as_deref();
    print(session, &args.names, format, |name| any(store, name, args.kind, sizes))
}

/// Runs `conex image inspect`.
pub fn run_image(session: &Session, args: &ImageArgs) -> Result<()> {
    let store = session.store()?;
    print(session, &args.names, args.format.as_deref(), |name| {
        image(store, name, args.platform.as_ref(), Sizes::LeftOut)
    })
}

/// Runs `conex volume inspect`.
pub fn run_volumes(session: &Session, names: &[String], format: Option<&str>) -> Result<()> {
    let store = session.store()?;
    print(session, names, format, |name| volume(store, name, Sizes::LeftOut))
}

/// Prints what is found, and fails for what is not.
fn print(
    session: &Session,
    names: &[String],
    format: Option<&str>,
    find: impl Fn(&str) -> Result<Document>,
) -> Result<()> {
    let template = match format {
        None | Some("" | "json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let mut failures = Failures::default();
    let mut found = Vec::new();
    for name in names {
        match find(name) {
            Ok(document) => found.push(document),
            Err(error) => failures.add(session, error, false),
        }
    }
    let text = match (template, format) {
        (Some(template), _) => {
            let mut text = String::new();
            for document in &found {
                text.push_str(&template.render(&document.whole, &TemplateOptions::STRICT)?);
                text.push('\n');
            }
            if text.is_empty() { "\n".to_owned() } else { text }
        }
        (None, Some("json")) => {
            let documents: Vec<&str> = found.iter().map(|one| one.compact.as_str()).collect();
            format!("[{}]\n", documents.join(","))
        }
        (None, _) => pretty_list(&found),
    };
    session.out(&text)?;
    failures.finish()
}

/// The documents as one list on several lines.
fn pretty_list(found: &[Document]) -> String {
    if found.is_empty() {
        return "[]\n".to_owned();
    }
    let indented = |document: &Document| {
        let lines: Vec<String> =
            document.pretty.lines().map(|line| format!("    {line}")).collect();
        lines.join("\n")
    };
    let documents: Vec<String> = found.iter().map(indented).collect();
    format!("[\n{}\n]\n", documents.join(",\n"))
}

/// Finds an image, or else a volume.
fn any(store: &Store, name: &str, kind: Option<Kind>, sizes: Sizes) -> Result<Document> {
    if kind == Some(Kind::Volume) {
        return volume(store, name, sizes);
    }
    let result = match store.resolve(name) {
        Ok(record) => return image::document(store, &record, None, sizes == Sizes::Measured),
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        Err(error) => return Err(error.into()),
    };
    if kind == Some(Kind::Image) {
        return Err(result.into());
    }
    match store.volume(name)? {
        Some(found) => volume_document(store, &found, sizes),
        None => Err(CliError::new(format!("no such object: `{name}`"))
            .with_hint("`conex images` and `conex volume ls` list what there is")),
    }
}

fn image(store: &Store, name: &str, platform: Option<&Platform>, sizes: Sizes) -> Result<Document> {
    let record = store.resolve(name)?;
    image::document(store, &record, platform, sizes == Sizes::Measured)
}

fn volume(store: &Store, name: &str, sizes: Sizes) -> Result<Document> {
    match store.volume(name)? {
        Some(volume) => volume_document(store, &volume, sizes),
        None => Err(CliError::new(format!("no such volume: `{name}`"))
            .with_hint("`conex volume ls` lists what there is")),
    }
}

fn volume_document(store: &Store, volume: &Volume, sizes: Sizes) -> Result<Document> {
    let map = |map: &std::collections::BTreeMap<String, String>| {
        if map.is_empty() { Value::Null } else { json!(map) }
    };
    let mut value = json!({
        "CreatedAt": shown::moment(volume.created).rfc3339_seconds(),
        "Driver": "local",
        "Labels": map(&volume.labels),
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": map(&volume.options),
        "Scope": "local",
    });
    if sizes == Sizes::Measured {
        let usage = store.volume_usage(volume)?;
        value["UsageData"] = json!({ "RefCount": u8::from(usage.is_in_use), "Size": usage.size });
    }
    Document::new(&value)
}

/// Adds fields that an object lacks.
fn fill(object: &mut Value, defaults: Value) {
    let (Value::Object(object), Value::Object(defaults)) = (object, defaults) else { return };
    let defaults: Map<String, Value> = defaults;
    for (name, value) in defaults {
        object.entry(name).or_insert(value);
    }
}
