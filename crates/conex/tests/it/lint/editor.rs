//! The language server over a pipe, as an editor speaks to it; and a real editor, if one is here.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, missing, program};

/// A client that checks every message that it gets.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    id: u64,
    published: Vec<Value>,
}

// So that what is asked can be written where it is asked.
#[allow(clippy::needless_pass_by_value)]
impl Client {
    fn start(sandbox: &Sandbox) -> Self {
        let mut child = sandbox
            .command(&["lsp", "--stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output, id: 0, published: Vec::new() }
    }

    fn send(&mut self, message: &Value) {
        let body = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        self.input.flush().unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the server went away");
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().unwrap(),
                Some(other) => panic!("header {other:?}"),
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        let message: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(message["jsonrpc"], "2.0");
        message
    }

    /// Asks, and gives the whole answer; what is published meanwhile is kept.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let id = self.id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.receive();
            if message["id"] == id {
                return message;
            }
            self.published.push(message);
        }
    }

    fn result(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// The codes that were published last.
    fn diagnostics(&mut self) -> Vec<String> {
        let message = self.receive();
        assert_eq!(message["method"], "textDocument/publishDiagnostics");
        let list = message["params"]["diagnostics"].as_array().unwrap().clone();
        let shown = |one: &Value| {
            format!("{}@{}", one["code"].as_str().unwrap(), one["range"]["start"]["line"])
        };
        list.iter().map(shown).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const TEXT: &str = "FROM debian:13 AS build\nRUN apt-get install x=1\n";

#[test]
fn an_editor_sees_findings_while_people_type() {
    let sandbox = Sandbox::new();
    let mut client = Client::start(&sandbox);
    let early = client.ask("textDocument/nothing", json!({}));
    assert_eq!(early["error"]["code"], -32601);
    let answer = client
        .result("initialize", json!({ "processId": null, "rootUri": null, "capabilities": {} }));
    let capabilities = &answer["capabilities"];
    assert_eq!(
        (&capabilities["positionEncoding"], &capabilities["textDocumentSync"]["change"]),
        (&json!("utf-16"), &json!(1))
    );
    client.tell("initialized", json!({}));
    let uri = format!("file://{}", sandbox.at("context/Dockerfile").display());
    let document = json!({ "uri": uri });
    let open = json!({ "uri": uri, "languageId": "dockerfile", "version": 1, "text": TEXT });
    client.tell("textDocument/didOpen", json!({ "textDocument": open }));
    assert_eq!(
        client.diagnostics(),
        ["AptNoRecommends@1", "AptGetYes@1"]
            .map(str::to_owned)
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );

    let at = |line: u32, character: u32| json!({ "line": line, "character": character });
    let place = |position: Value| json!({ "textDocument": document, "position": position });
    let hover = client.result("textDocument/hover", place(at(1, 14)));
    assert!(hover["contents"]["value"].as_str().unwrap().contains("# Apt"), "{hover}");
    let hover = client.result("textDocument/hover", place(at(0, 1)));
    assert!(hover["contents"]["value"].as_str().unwrap().starts_with("`FROM"), "{hover}");

    let range = json!({ "start": at(1, 13), "end": at(1, 13) });
    let actions = client.result(
        "textDocument/codeAction",
        json!({ "textDocument": document, "range": range, "context": { "diagnostics": [] } }),
    );
    let titles: Vec<&str> =
        actions.as_array().unwrap().iter().map(|one| one["title"].as_str().unwrap()).collect();
    assert_eq!(
        titles,
        [
            "add `-y` (DL3014)",
            "add `--no-install-recommends` (DL3015)",
            "mend all that can be mended safely"
        ]
    );
    let edit = &actions[0]["edit"]["changes"][uri.as_str()][0];
    assert_eq!((&edit["newText"], &edit["range"]["start"]), (&json!(" -y"), &at(1, 19)));

    let text = "from   debian:13 as build\ncopy --from=\nC\nCOPY -";
    let change = json!({
        "textDocument": { "uri": uri, "version": 2 }, "contentChanges": [{ "text": text }],
    });
    client.tell("textDocument/didChange", change);
    assert!(client.diagnostics().iter().any(|one| one.starts_with("SyntaxError@")));
    let labels = |client: &mut Client, position: Value| -> Vec<String> {
        let items = client.result("textDocument/completion", place(position))["items"].clone();
        items
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["label"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(labels(&mut client, at(1, 12)).contains(&"build".to_owned()));
    assert!(labels(&mut client, at(2, 1)).contains(&"COPY".to_owned()));
    assert!(labels(&mut client, at(3, 6)).contains(&"--from=".to_owned()));
    assert!(labels(&mut client, at(0, 7)).contains(&"scratch".to_owned()));

    // Stages are shown where they are named; images of the store are offered as they are now.
    let text = "FROM debian:13 AS build\nRUN a\nFROM build AS last\n\
                RUN --mount=from=build,target=/x b\nCOPY --from=0 /a /b\nFROM \n";
    let change = json!({
        "textDocument": { "uri": uri, "version": 3 }, "contentChanges": [{ "text": text }],
    });
    client.tell("textDocument/didChange", change);
    client.diagnostics();
    for (line, character) in [(2, 6), (3, 18), (4, 12)] {
        let hover = client.result("textDocument/hover", place(at(line, character)));
        let shown = hover["contents"]["value"].as_str().unwrap().to_owned();
        assert_eq!(shown, "Stage `build`, line 1: starts from `debian:13`, 1 instructions.");
    }
    assert!(!labels(&mut client, at(5, 5)).contains(&"app:1.4".to_owned()));
    let ended = sandbox.build("FROM scratch\nENV a=b\n", &["-t", "app:1.4"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let offered = labels(&mut client, at(5, 5));
    for name in ["app:1.4", "build", "last", "scratch"] {
        assert!(offered.contains(&name.to_owned()), "{name}: {offered:?}");
    }

    let text = "from   debian:13\n";
    let change = json!({
        "textDocument": { "uri": uri, "version": 4 }, "contentChanges": [{ "text": text }],
    });
    client.tell("textDocument/didChange", change);
    client.diagnostics();
    let options =
        json!({ "textDocument": document, "options": { "tabSize": 4, "insertSpaces": true } });
    let edits = client.result("textDocument/formatting", options);
    assert_eq!(edits[0]["newText"], "FROM debian:13\n");
    client.tell("textDocument/didClose", json!({ "textDocument": document }));
    assert_eq!(client.diagnostics(), [""; 0]);
    assert_eq!(client.result("shutdown", Value::Null), Value::Null);
    client.tell("exit", Value::Null);
    assert!(client.child.wait().unwrap().success());
}

#[test]
fn an_editor_that_goes_away_ends_the_server() {
    let sandbox = Sandbox::new();
    let mut client = Client::start(&sandbox);
    client.tell("exit", Value::Null);
    assert_eq!(client.child.wait().unwrap().code(), Some(1));
    let ended = sandbox.conex_with(&["lsp"], b"no header\r\n\r\n");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("Content-Length"), "{}", ended.err);
}

#[test]
fn neovim_shows_the_findings() {
    let Some(nvim) = program("nvim") else { return missing("nvim") };
    let sandbox = Sandbox::new();
    sandbox.write("context/Dockerfile", TEXT);
    let script = format!(
        "local id = vim.lsp.start_client({{ name = 'conex', cmd = {{ '{}', 'lsp' }} }})\n\
         vim.lsp.buf_attach_client(0, id)\n\
         vim.wait(10000, function() return #vim.diagnostic.get(0) > 0 end)\n\
         local codes = vim.tbl_map(function(d)\n\
           return (d.code or d.user_data.lsp.code) .. '@' .. d.lnum\n\
         end, vim.diagnostic.get(0))\n\
         table.sort(codes)\n\
         vim.fn.writefile(codes, 'found')\n",
        crate::sandbox::CONEX
    );
    sandbox.write("context/start.lua", script);
    let output = std::process::Command::new(nvim)
        .args(["--headless", "--clean", "Dockerfile", "-c", "luafile start.lua", "-c", "qa!"])
        .current_dir(sandbox.at("context"))
        .env("HOME", sandbox.path())
        .output()
        .unwrap();
    let found = std::fs::read_to_string(sandbox.at("context/found"));
    assert_eq!(found.ok().as_deref(), Some("AptGetYes@1\nAptNoRecommends@1\n"), "{output:?}");
}
