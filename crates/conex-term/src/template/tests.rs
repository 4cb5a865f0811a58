use super::{Format, Missing, STEPS_MAX, Template, TemplateOptions};
use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn rendered(template: &str, value: &Json, options: &TemplateOptions<'_>) -> String {
    let outcome = Template::parse(template).and_then(|parsed| parsed.render(value, options));
    outcome.unwrap_or_else(|error| match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    })
}

/// Where this engine differs from Go on purpose: JSON's `null` and what is missing have no fields
/// and no length instead of ending the run; a pipe into nothing and a new value for `$` are errors.
const UNLIKE_GO: [&str; 4] =
    ["{{ len .Missing }}", "{{ .Null.Foo }}", "{{.Name |}}", "{{$}}{{$ = 1}}"];

/// Templates and what Go's text/template made of them, recorded by `tests/go-templates/main.go`.
#[test]
fn templates_print_what_go_prints() {
    let recorded: Json =
        serde_json::from_str(include_str!("../../tests/go-templates/recorded.json")).unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() > 150);
    let mut wrong = Vec::new();
    for case in cases {
        let text = case["template"].as_str().unwrap();
        let ours = Template::parse(text)
            .and_then(|parsed| parsed.render(&recorded["data"], &TemplateOptions::LENIENT));
        let is_same = match (&ours, case["output"].as_str()) {
            (Ok(ours), Some(gos)) => ours == gos,
            (Err(_), None) => true,
            _ => false,
        };
        if is_same == UNLIKE_GO.contains(&text) {
            wrong.push(format!("{text}\n  ours {ours:?}\n  Go's {case}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn document() -> Json {
    json!({
        "Id": "sha256:0123456789ab",
        "RepoTags": ["app:1", "app:latest"],
        "Size": 1234,
        "Config": { "Cmd": ["sh"], "Env": null, "Labels": { "team": "a" } },
    })
}

#[test]
fn errors_have_a_place_and_say_what_was_meant() {
    let shown = |template| rendered(template, &document(), &TemplateOptions::STRICT);
    assert_snapshot!(shown("{{.Id}}\n  {{.RepoTag}}"), @r"
    template:2:5: there is no field `.RepoTag`
    hint: did you mean `.RepoTags`?
    ");
    assert_snapshot!(shown("{{.Config.Labls.team}}"), @r"
    template:1:10: there is no field `.Labls`
    hint: did you mean `.Labels`?
    ");
    assert_eq!(
        shown("{{range .RepoTags}}{{.Name}}{{end}}"),
        "template:1:22: `.Name` of a string: only an object has fields"
    );
    assert_snapshot!(shown("{{jsn .}}"), @r"
    template:1:3: there is no function `jsn`
    hint: did you mean `json`?
    ");
    assert_snapshot!(shown("{{$name := .Id}}{{$nam}}"), @r"
    template:1:19: there is no variable `$nam`
    hint: did you mean `$name`?
    ");
    assert_eq!(shown("{{if .Id}}"), "template:1:1: the `if` is not ended by `{{end}}`");
    assert_snapshot!(shown("{{esle}}"), @r"
    template:1:3: there is no function `esle`
    hint: did you mean `else`?
    ");
    assert_eq!(shown("é {{.Id"), "template:1:3: the action is not ended by `}}`");
    assert_eq!(shown("{{truncate .Id}}"), "template:1:3: `truncate` wants 2 arguments, not 1");
    assert_eq!(
        shown("{{index .RepoTags 5}}"),
        "template:1:3: `index` 5 is out of range, there are 2"
    );
    assert_eq!(
        shown("{{.Config.Env.First}}"),
        "template:1:14: `.First` of nothing: only an object has fields"
    );
    assert_eq!(shown("{{define \"x\"}}{{end}}"), "template:1:1: `define` is not supported");
}

#[test]
fn labels_may_be_missing_where_fields_may_not() {
    let options = TemplateOptions { optional: &["Healthcheck"], ..TemplateOptions::STRICT };
    let shown = |template| rendered(template, &document(), &options);
    assert_eq!(shown("{{.Config.Labels.none}}"), "<no value>");
    assert_eq!(shown("{{with .Config.Labels}}{{.team}}{{.none}}{{end}}"), "a<no value>");
    assert_eq!(shown("{{if .Config.Healthcheck}}yes{{else}}no{{end}}"), "no");
    assert_eq!(shown("{{.Config.Healthcheck.Test}}"), "<no value>");
    assert_eq!(shown("{{index .Config.Labels \"none\"}}|"), "|");
    // Go writes an empty map as `null`.
    let empty = json!({ "Labels": null });
    let shown = |template| rendered(template, &empty, &options);
    assert_eq!(shown("{{.Labels.none}} {{json .Labels}}"), "<no value> null");
    assert_eq!(shown("{{index .Labels \"none\"}}|{{range .Labels}}x{{end}}"), "|");
}

#[test]
fn a_listing_answers_for_a_label() {
    let row = json!({ "Labels": "team=a,stage=prod" });
    let shown = |template| rendered(template, &row, &TemplateOptions::STRICT);
    assert_eq!(shown("{{.Label \"stage\"}}|{{.Label \"none\"}}|"), "prod||");
}

#[test]
fn limits_end_what_would_not_end() {
    for (template, why) in [
        ("{{range 99999999999}}{{end}}", "more than 10000000 steps"),
        ("{{range 999999}}{{printf \"%100000d\" 1}}{{end}}", "more than 64 MiB of text"),
        ("{{printf \"%1000000d%1000000d\" 1 2 | print | len}}", "2000000"),
        (
            "{{$x := \"aaaaaaaaaaaaaaaa\"}}{{range 99}}{{$x = print $x $x}}{{end}}{{len $x}}",
            "more than 64 MiB of text",
        ),
    ] {
        let shown = rendered(template, &Json::Null, &TemplateOptions::LENIENT);
        assert!(shown.ends_with(why), "{template}: {shown}");
    }
    assert_eq!(STEPS_MAX, 10_000_000);
    let deep = format!("{}{}", "{{if 1}}".repeat(100), "{{end}}".repeat(100));
    assert_eq!(
        rendered(&deep, &Json::Null, &TemplateOptions::LENIENT),
        "template:1:513: nested deeper than 64"
    );
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(100), ")".repeat(100));
    assert_eq!(
        rendered(&deep, &Json::Null, &TemplateOptions::LENIENT),
        "template:1:67: nested deeper than 64"
    );
    let chain = format!("{{{{if 0}}}}{}{{{{end}}}}", "{{else if 0}}".repeat(100));
    assert_eq!(
        rendered(&chain, &Json::Null, &TemplateOptions::LENIENT),
        "template:1:828: nested deeper than 64"
    );
    let large = "x".repeat(300 << 10);
    assert_eq!(
        rendered(&large, &Json::Null, &TemplateOptions::LENIENT),
        "template:1:1: the template is larger than 256 KiB"
    );
}

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const HEADERS: [(&str, &str); 2] = [("ID", "IMAGE ID"), ("CreatedSince", "CREATED")];

fn listed(format: &str) -> String {
    let rows = [
        json!({ "Repository": "alpine", "Tag": "3", "ID": "0123456789ab", "Size": "7.38MB",
                "CreatedSince": "2 weeks ago", "Labels": { "a": "1" } }),
        json!({ "Repository": "registry.example.com/app", "Tag": "\u{1b}[2Jx\ty", "ID": "1",
                "CreatedSince": "About an hour ago", "Size": "1GB", "Labels": {} }),
    ];
    let outcome = Format::parse(format, TABLE)
        .and_then(|format| format.render(&rows, &HEADERS, &TemplateOptions::STRICT));
    outcome.unwrap_or_else(|error| error.to_string())
}

#[test]
fn listings_are_tables_objects_or_lines() {
    assert_snapshot!(listed(""), @r"
    REPOSITORY                 TAG       IMAGE ID       CREATED             SIZE
    alpine                     3         0123456789ab   2 weeks ago         7.38MB
    registry.example.com/app   x y       1              About an hour ago   1GB
    ");
    assert_eq!(listed("table"), listed(""));
    assert_snapshot!(listed("table {{.Repository | upper}}:{{.Tag}}\\t{{truncate .ID 4}}"), @r"
    REPOSITORY:TAG                 IMAGE ID
    ALPINE:3                       0123
    REGISTRY.EXAMPLE.COM/APP:x y   1
    ");
    assert_eq!(
        listed(
            "table {{if .Size}}{{.Size}}{{end}}\t{{range $k, $v := .Labels}}{{$k}}{{end}}\t{{.CreatedAt}}"
        ),
        "template:1:73: there is no field `.CreatedAt`"
    );
    assert_eq!(
        listed("table {{json .Labels}}\t{{.RunningFor}}"),
        "template:1:20: there is no field `.RunningFor`"
    );
    assert_snapshot!(listed("{{.ID}}\\t{{.Size}}\\n{{join (split .Size \"M\") \"\\n\"}}"), @r"
    0123456789ab	7.38MB
    7.38
    B
    1	1GB
    1GB
    ");
    assert_eq!(
        listed("json").lines().next().unwrap(),
        r#"{"CreatedSince":"2 weeks ago","ID":"0123456789ab","Labels":{"a":"1"},"Repository":"alpine","Size":"7.38MB","Tag":"3"}"#
    );
    assert_eq!(listed("table {{.Nme}}"), "template:1:3: there is no field `.Nme`");
    assert!(Format::parse("table", TABLE).unwrap().is_table());
    assert!(!Format::parse("{{.ID}}", TABLE).unwrap().is_table());
}

fn template() -> impl Strategy<Value = String> {
    let words = r#"{{ }} {{- -}} ( ) | , $x $ := = . .A .B if else end range with break and or not index
        slice len printf "%d%*v%[1]s" "s" `r` 'c' 1 -3 2.5 0 nil true split join truncate pad eq lt
        json title /* */ é \ % {{range·.A}} {{end}} {{if·.B}} {{$x:=.A}} {{index·.A·1}}
        {{slice·.A·0·1}} · \n"#;
    let pieces: Vec<String> =
        words.split_whitespace().map(|word| word.replace('·', " ").replace("\\n", "\n")).collect();
    let piece = prop::sample::select(pieces);
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_template_panics(text in prop_oneof![template(), any::<String>()]) {
        let value = json!({ "A": [1, "two", null, { "B": -1.5 }], "B": { "A": "é" } });
        for missing in [Missing::NoValue, Missing::Error] {
            rendered(&text, &value, &TemplateOptions { missing, maps: &["B"], optional: &[] });
        }
        if let Ok(format) = Format::parse(&text, TABLE) {
            let rows = [value.clone(), Json::Null];
            let _ = format.render(&rows, &HEADERS, &TemplateOptions::LENIENT);
        }
    }

    #[test]
    fn printf_never_panics(format in "[%a-zX+#0 .*\\[\\]1-9-]{0,12}") {
        let value = json!({ "F": format, "L": [1, null, "x"] });
        for argument in ["-7", "1.5", "\"é\"", "true", ".L", "nil", "18446744073709551615.0"] {
            let template = format!("{{{{printf .F {argument} {argument} 3}}}}");
            rendered(&template, &value, &TemplateOptions::LENIENT);
        }
    }
}
