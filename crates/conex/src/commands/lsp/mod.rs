//! `conex lsp`: the language server of Dockerfiles, over standard input and output.
//!
//! Speaks the Language Server Protocol 3.17 as far as it says in its answer to `initialize`:
//! diagnostics, hovers, completion, quick fixes, formatting. Documents come whole
//! (`TextDocumentSyncKind.Full`): a Dockerfile is small, and is linted in less than a millisecond.

mod completion;
mod position;
mod wire;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use conex_lint::{Finding, Safety};
use serde_json::{Value, json};

use self::position::{Encoding, Text};
use super::lint::{Config, ConfigArgs, Input, forget_folders, with_options};
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Serve Dockerfiles to an editor
///
/// A language server on standard input and output: findings while you type, hovers, completion of
/// instructions, flags, stages and images of the store, quick fixes and formatting. Editors start
/// it themselves; name it as the server of `dockerfile`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex lsp\n  \
    nvim --cmd \"lua vim.lsp.start({cmd={'conex','lsp'},name='conex'})\" Dockerfile")]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Accepted for editors that pass it: there is no other way to speak
    #[arg(long)]
    stdio: bool,
}

/// Most documents open at the same time: an editor has dozens.
const DOCUMENT_COUNT_MAX: usize = 1_000;

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let config = Config::read(&args.config)?;
    let mut server = Server::new(session, config);
    let stdin = std::io::stdin();
    let stdout = std::io::stdout();
    server.serve(&mut stdin.lock(), &mut stdout.lock())
}

/// What the server knows between two messages.
struct Server<'s> {
    session: &'s Session,
    config: Config,
    encoding: Encoding,
    documents: BTreeMap<String, String>,
    is_shut_down: bool,
}

/// A code of JSON-RPC, and what to say.
type Refusal = (i64, String);

impl<'s> Server<'s> {
    fn new(session: &'s Session, config: Config) -> Self {
        Self {
            session,
            config,
            encoding: Encoding::Utf16,
            documents: BTreeMap::new(),
            is_shut_down: false,
        }
    }

    fn serve(&mut self, input: &mut impl BufRead, output: &mut impl Write) -> Result<()> {
        loop {
            let message = match wire::read(input) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(wire::Fault::Json(text)) => {
                    let error = json!({ "code": -32700, "message": text });
                    send(output, &json!({ "jsonrpc": "2.0", "id": null, "error": error }))?;
                    continue;
                }
                Err(wire::Fault::Io(error)) => {
                    return Err(CliError::because("cannot read from the editor", error));
                }
            };
            let method = message.get("method").and_then(Value::as_str).unwrap_or("").to_owned();
            let parameters = message.get("params").cloned().unwrap_or(Value::Null);
            if method == "exit" {
                break;
            }
            match message.get("id").cloned() {
                // An answer to something that was never asked.
                Some(_) if method.is_empty() => {}
                Some(id) => {
                    let answer = match self.request(&method, &parameters) {
                        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
                        Err((code, text)) => {
                            let error = json!({ "code": code, "message": text });
                            json!({ "jsonrpc": "2.0", "id": id, "error": error })
                        }
                    };
                    send(output, &answer)?;
                }
                None => {
                    if let Some(published) = self.notification(&method, &parameters) {
                        send(output, &published)?;
                    }
                }
            }
        }
        if self.is_shut_down { Ok(()) } else { Err(CliError::exit(crate::error::FAILED)) }
    }

    fn request(&mut self, method: &str, parameters: &Value) -> std::result::Result<Value, Refusal> {
        if self.is_shut_down {
            return Err((-32600, "the server was shut down".to_owned()));
        }
        match method {
            "initialize" => Ok(self.initialize(parameters)),
            "shutdown" => {
                self.is_shut_down = true;
                Ok(Value::Null)
            }
            "textDocument/hover" => Ok(self.hover(parameters).unwrap_or(Value::Null)),
            "textDocument/completion" => Ok(self.completion(parameters).unwrap_or(Value::Null)),
            "textDocument/codeAction" => Ok(self.actions(parameters).unwrap_or(Value::Null)),
            "textDocument/formatting" => Ok(self.formatting(parameters).unwrap_or(Value::Null)),
            other => Err((-32601, format!("there is no method `{other}`"))),
        }
    }

    fn initialize(&mut self, parameters: &Value) -> Value {
        let offered = parameters.pointer("/capabilities/general/positionEncodings");
        let offered = offered.and_then(Value::as_array).cloned().unwrap_or_default();
        if offered.iter().any(|one| one == "utf-32") {
            self.encoding = Encoding::Utf32;
        }
        json!({
            "capabilities": {
                "positionEncoding": self.encoding.name(),
                "textDocumentSync": { "openClose": true, "change": 1, "save": true },
                "hoverProvider": true,
                "completionProvider": { "triggerCharacters": ["-", "=", ":", " "] },
                "codeActionProvider": { "codeActionKinds": ["quickfix", "source.fixAll"] },
                "documentFormattingProvider": true,
            },
            "serverInfo": { "name": "conex", "version": env!("CARGO_PKG_VERSION") },
        })
    }

    /// Takes a notification; what is to be published.
    fn notification(&mut self, method: &str, parameters: &Value) -> Option<Value> {
        let uri = parameters.pointer("/textDocument/uri")?.as_str()?.to_owned();
        match method {
            "textDocument/didOpen" => {
                let text = parameters.pointer("/textDocument/text")?.as_str()?;
                if self.documents.len() >= DOCUMENT_COUNT_MAX {
                    return None;
                }
                self.documents.insert(uri.clone(), text.to_owned());
                Some(self.published(&uri))
            }
            "textDocument/didChange" => {
                let changes = parameters.get("contentChanges")?.as_array()?;
                let text = changes.last()?.get("text")?.as_str()?;
                *self.documents.get_mut(&uri)? = text.to_owned();
                Some(self.published(&uri))
            }
            "textDocument/didSave" => {
                self.documents.contains_key(&uri).then(|| self.published(&uri))
            }
            "textDocument/didClose" => {
                self.documents.remove(&uri)?;
                Some(publication(&uri, Value::Array(Vec::new())))
            }
            _ => None,
        }
    }

    fn document(&self, parameters: &Value) -> Option<(String, &str)> {
        let uri = parameters.pointer("/textDocument/uri")?.as_str()?;
        Some((uri.to_owned(), self.documents.get(uri)?))
    }

    fn findings(&self, uri: &str, text: &str) -> Vec<Finding> {
        let input = input(uri, text);
        with_options(&self.config, &input, |options| {
            conex_lint::lint(text.as_bytes(), options).findings
        })
    }

    fn published(&self, uri: &str) -> Value {
        let text = self.documents.get(uri).map_or("", String::as_str);
        let places = Text::new(text, self.encoding);
        let all = self.findings(uri, text);
        publication(uri, all.iter().map(|finding| diagnostic(finding, &places)).collect())
    }

    /// What is found here, else what the instruction is for.
    fn hover(&self, parameters: &Value) -> Option<Value> {
        let (uri, text) = self.document(parameters)?;
        let places = Text::new(text, self.encoding);
        let at = places.position(parameters.get("position")?)?;
        let here = |finding: &&Finding| finding.span.start <= at && at <= finding.span.end;
        let found = self.findings(&uri, text);
        // The narrowest one is meant.
        let found = found.iter().filter(here).min_by_key(|finding| {
            let (first, last) = finding.span.lines();
            (last - first, finding.span.end.column.abs_diff(finding.span.start.column))
        });
        let found = found.and_then(|one| Some((one.rule?, one.span)));
        let (text, span) = completion::keyword_help(text, at)
            .map(|(help, span)| (help.to_owned(), span))
            .or_else(|| completion::stage_help(text, at))
            .or_else(|| found.map(|(rule, span)| (conex_lint::page(rule), span)))?;
        let contents = json!({ "kind": "markdown", "value": text });
        Some(json!({ "contents": contents, "range": places.range(span) }))
    }

    fn completion(&self, parameters: &Value) -> Option<Value> {
        let (_, text) = self.document(parameters)?;
        let text = text.to_owned();
        let at = Text::new(&text, self.encoding).position(parameters.get("position")?)?;
        let mut items = completion::items(&text, at);
        if completion::wants_image(&text, at) {
            items.extend(self.images().iter().map(|name| completion::image(name)));
        }
        Some(json!({ "isIncomplete": false, "items": items }))
    }

    /// Names of images in the store. Without a store there are none to offer.
    fn images(&self) -> Vec<String> {
        let images = self.session.store().ok().and_then(|store| store.images().ok());
        let mut names: Vec<String> = images
            .unwrap_or_default()
            .iter()
            .flat_map(|image| &image.tags)
            .map(conex_oci::Reference::familiar)
            .collect();
        names.sort();
        names
    }

    fn actions(&self, parameters: &Value) -> Option<Value> {
        let (uri, text) = self.document(parameters)?;
        let places = Text::new(text, self.encoding);
        let range = parameters.get("range")?;
        let (start, end) =
            (places.position(range.get("start")?)?, places.position(range.get("end")?)?);
        let found = self.findings(&uri, text);
        let touches = |finding: &&Finding| finding.span.start <= end && start <= finding.span.end;
        let mut actions: Vec<Value> = found
            .iter()
            .filter(touches)
            .filter_map(|finding| Some((finding, finding.fix.as_ref()?)))
            .map(|(finding, fix)| {
                let edits: Vec<Value> = fix
                    .edits
                    .iter()
                    .map(|edit| {
                        json!({ "range": places.byte_range(&edit.range), "newText": edit.text })
                    })
                    .collect();
                json!({
                    "title": format!("{} ({})", fix.title, finding.code),
                    "kind": "quickfix",
                    "isPreferred": fix.safety == Safety::Safe,
                    "diagnostics": [diagnostic(finding, &places)],
                    "edit": { "changes": { (uri.as_str()): edits } },
                })
            })
            .collect();
        let input = input(&uri, text);
        let fixed = with_options(&self.config, &input, |options| {
            conex_lint::fix(text, options, Safety::Safe, &|_| true)
        });
        if fixed.text != text {
            let edits = json!([{ "range": places.whole(), "newText": fixed.text }]);
            actions.push(json!({
                "title": "mend all that can be mended safely",
                "kind": "source.fixAll",
                "edit": { "changes": { (uri.as_str()): edits } },
            }));
        }
        Some(Value::Array(actions))
    }

    fn formatting(&self, parameters: &Value) -> Option<Value> {
        let (_, text) = self.document(parameters)?;
        let formatted =
            conex_lint::format::format(text).ok().filter(|formatted| formatted != text)?;
        let places = Text::new(text, self.encoding);
        Some(json!([{ "range": places.whole(), "newText": formatted }]))
    }
}

/// A document as the linter takes files.
fn input(uri: &str, text: &str) -> Input {
    forget_folders();
    let path = path_of(uri);
    let name = path.as_ref().map_or_else(|| uri.to_owned(), |path| path.display().to_string());
    Input::new(name, path, text.as_bytes().to_vec())
}

/// The path of a `file:` URI.
fn path_of(uri: &str) -> Option<PathBuf> {
    let encoded = uri.strip_prefix("file://")?;
    let (mut bytes, mut rest) = (Vec::new(), encoded.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded =
            digits.filter(|_| *first == b'%').and_then(|d| u8::from_str_radix(d, 16).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

fn publication(uri: &str, diagnostics: Value) -> Value {
    let parameters = json!({ "uri": uri, "diagnostics": diagnostics });
    json!({ "jsonrpc": "2.0", "method": "textDocument/publishDiagnostics", "params": parameters })
}

fn diagnostic(finding: &Finding, places: &Text<'_>) -> Value {
    let severity = match finding.level {
        conex_lint::Level::Error => 1,
        conex_lint::Level::Warning => 2,
        conex_lint::Level::Info => 3,
        conex_lint::Level::Style => 4,
    };
    let message = match &finding.hint {
        Some(hint) => format!("{}\n{hint}", finding.message),
        None => finding.message.clone(),
    };
    json!({
        "range": places.range(finding.span),
        "severity": severity,
        "code": finding.name(),
        "source": "conex",
        "message": message,
    })
}

fn send(output: &mut impl Write, message: &Value) -> Result<()> {
    wire::write(output, message).doing(|| "cannot write to the editor".to_owned())
}
