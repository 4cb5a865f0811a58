//! `conex manifest`: the documents behind an image's name.

use conex_oci::{Descriptor, Index, Reference};
use conex_remote::{ManifestBytes, Repository};
use serde_json::{Map, Value, json};

use crate::error::{CliError, Result};
use crate::registry::Access;
use crate::session::Session;

/// Look at manifests in a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex manifest inspect alpine:3")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Inspect(InspectArgs),
}

/// Show a manifest or index as it is in the registry
///
/// Nothing is pulled into the store. The document is shown with its fields in their order;
/// `--raw` shows its very bytes, of which the digest is made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex manifest inspect alpine:3\n  \
    conex manifest inspect --raw alpine:3 | sha256sum\n  conex manifest inspect -v alpine:3")]
struct InspectArgs {
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,

    /// Show the bytes as they are
    #[arg(long, conflicts_with = "verbose")]
    raw: bool,

    /// Show each platform's manifest with its descriptor, as `docker manifest inspect -v` does
    #[arg(short, long)]
    verbose: bool,

    /// Take any certificate, and plain HTTP
    #[arg(long)]
    insecure: bool,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let Action::Inspect(args) = args.action;
    let name = args.name.strip_prefix("docker://").unwrap_or(&args.name);
    let reference: Reference = name.parse()?;
    let access = Access::verified(args.tls_verify && !args.insecure);
    let client = crate::registry::client_with(session, &access)?;
    let repository = client.repository(&reference);
    let found = repository.manifest()?;
    if args.raw {
        // Not a byte more: what is shown has the manifest's digest.
        return session.out(&text(&found.bytes)?);
    }
    if args.verbose {
        let value = verbose(&repository, &found)?;
        return session.out(&format!("{value:#}\n"));
    }
    session.out(&format!("{}\n", indented(&text(&found.bytes)?)))
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| CliError::new("the manifest is not UTF-8"))
}

/// What Docker shows: an object for an image, a list of them for an index.
fn verbose(repository: &Repository, found: &ManifestBytes) -> Result<Value> {
    if !found.descriptor.media_type.is_index() {
        return one(repository, &found.descriptor, &found.bytes);
    }
    let index = Index::parse(&found.bytes)?;
    let entry = |child: &Descriptor| one(repository, child, &repository.manifest_of(child)?.bytes);
    Ok(Value::Array(index.manifests.iter().map(entry).collect::<Result<_>>()?))
}

fn one(repository: &Repository, descriptor: &Descriptor, bytes: &[u8]) -> Result<Value> {
    let named = repository.reference().with_digest(descriptor.digest.clone());
    let document: Value = serde_json::from_slice(bytes)
        .map_err(|error| CliError::because("the manifest is not JSON", error))?;
    let field = if descriptor.media_type.as_str().contains("docker") {
        "SchemaV2Manifest"
    } else {
        "OCIManifest"
    };
    let mut object = Map::new();
    object.insert("Ref".to_owned(), json!(named.to_string()));
    object.insert("Descriptor".to_owned(), json!(descriptor));
    object.insert("Raw".to_owned(), json!(text(bytes)?));
    object.insert(field.to_owned(), document);
    Ok(Value::Object(object))
}

/// Breaks a JSON document into lines without changing anything else: a parser would sort fields,
/// round numbers and forget what is there twice. It was checked to be JSON before.
fn indented(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut chars = text.chars().peekable();
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        // Deeper than anything that means well, indenting would cost more than the text.
        out.extend(std::iter::repeat_n("   ", depth.min(64)));
    };
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.peek().is_some_and(char::is_ascii_whitespace) {
                    chars.next();
                }
                if matches!(chars.peek(), Some('}' | ']')) {
                    out.extend(chars.next());
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            // Outside of strings JSON has nothing that a terminal would obey.
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn documents_keep_their_order_and_numbers() {
        let text = r#"{"b":1.50,"a":[],"c":[{"x":"a\",{:"},{}],  "n" : null}"#;
        insta::assert_snapshot!(indented(text), @r#"
        {
           "b": 1.50,
           "a": [],
           "c": [
              {
                 "x": "a\",{:"
              },
              {}
           ],
           "n": null
        }
        "#);
    }
}
