//! The rules: each with the examples of its own documentation, and with its edges.

mod cases;
mod linting;
mod properties;

use std::collections::BTreeMap;

use conex_dockerfile::{Ignore, parse};
use conex_lint::{BaseImage, CheckOptions, Report, Scope, Set, check, rule, rules};
use conex_oci::Platform;

/// What one case is checked with.
struct Case<'a> {
    text: &'a str,
    ignore: &'a str,
    args: &'a [(&'a str, &'a str)],
    target: Option<&'a str>,
    scope: Scope,
}

impl<'a> Case<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, ignore: "ignored\n*.log\n", args: &[], target: None, scope: Scope::All }
    }

    fn report(&self) -> Report {
        let (file, mistakes) = parse(self.text.as_bytes());
        assert_eq!(mistakes, [], "{}", self.text);
        let (ignore, mistakes) = Ignore::parse(self.ignore.as_bytes());
        assert_eq!(mistakes, [], "{}", self.ignore);
        let pairs = self.args.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let platform: Platform = "linux/amd64".parse().expect("it is a platform");
        check(
            &file,
            &CheckOptions {
                build_args: BTreeMap::from_iter(pairs),
                target: self.target.map(str::to_owned),
                scope: self.scope,
                ignore: Some(&ignore),
                build_platform: platform.clone(),
                target_platform: platform,
                base: &known_image,
            },
        )
    }

    /// `RULE:LINE` of each finding.
    fn found(&self) -> Vec<String> {
        let report = self.report();
        let name = |code: Option<&'static str>| code.unwrap_or("error");
        report
            .diagnostics
            .iter()
            .map(|d| format!("{}:{}", name(d.code), d.span.map_or(0, |span| span.lines().0)))
            .collect()
    }
}

/// The images that the cases start from; nothing is known of the others.
fn known_image(name: &str, _: &Platform) -> Option<BaseImage> {
    let mut image = BaseImage { env: vec!["PATH=/bin".to_owned()], ..BaseImage::default() };
    match name {
        "alpine" | "example.test/any" => {}
        "shelled" => image.has_shell = true,
        "java" => image.env.push("JAVA_HOME=/java".to_owned()),
        "triggering" => image.on_build = vec!["COPY $nothing /x".to_owned()],
        "example.test/arm-only" => image.platform = "linux/arm64".parse().ok(),
        _ => return None,
    }
    Some(image)
}

fn found(text: &str) -> Vec<String> {
    Case::new(text).found()
}

#[test]
fn every_rule_finds_its_bad_example_and_passes_its_good_one() {
    let checks = rules().filter(|rule| rule.set == Set::BuildKit);
    assert_eq!(checks.clone().count(), 22);
    for rule in checks {
        let fires = |text| {
            let report = Case::new(text).report();
            report.diagnostics.iter().any(|found| found.code == Some(rule.name))
        };
        assert!(fires(rule.bad), "{} on its bad example", rule.name);
        assert!(!fires(rule.good), "{} on its good example", rule.name);
        assert_eq!(found(rule.good), Vec::<String>::new(), "any on {}'s good example", rule.name);
        assert!(!rule.why.is_empty() && !rule.description.is_empty());
        assert!(conex_lint::rule(rule.name).is_some());
    }
    assert!(rule("NoSuchRule").is_none());
}

#[test]
fn texts_are_those_that_people_know() {
    let text = "\
FROM scratch AS Foo
FROM --platform=linux/amd64 scratch as foo
FROM alpine:${TGA} AS context
ENV KEY_NAME x
cmd foo
cmd bar
COPY $PHAT ignored/./a /
EXPOSE 1:80/TCP
WORKDIR a\\\"b
";
    let report = Case::new(text).report();
    let lines: Vec<String> = report
        .diagnostics
        .iter()
        .map(|d| {
            format!(
                "{}: {}: {}",
                d.span.map_or(0, |s| s.lines().0),
                d.code.unwrap_or(""),
                d.message
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    1: StageNameCasing: Stage name 'Foo' should be lowercase
    2: FromAsCasing: 'as' and 'FROM' keywords' casing do not match
    2: DuplicateStageName: Duplicate stage name "foo", stage names should be unique
    2: FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64"
    3: ReservedStageName: Stage name should not use the same name as reserved stage "context"
    3: UndefinedArgInFrom: FROM argument 'TGA' is not declared
    3: InvalidDefaultArgInFrom: Default value for ARG alpine:${TGA} results in empty or invalid base image name
    4: LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format
    4: SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "KEY_NAME")
    5: ConsistentInstructionCasing: Command 'cmd' should match the case of the command majority (uppercase)
    5: JSONArgsRecommended: JSON arguments recommended for cmd to prevent unintended behavior related to OS signals
    5: MultipleInstructionsDisallowed: Multiple cmd instructions should not be used in the same stage because only the last one will be used
    6: ConsistentInstructionCasing: Command 'cmd' should match the case of the command majority (uppercase)
    6: JSONArgsRecommended: JSON arguments recommended for cmd to prevent unintended behavior related to OS signals
    7: UndefinedVar: Usage of undefined variable '$PHAT' (did you mean $PATH?)
    7: CopyIgnoredFile: Attempting to Copy file "ignored/a" that is excluded by .dockerignore
    8: ExposeProtoCasing: Defined protocol '1:80/TCP' in EXPOSE instruction should be lowercase
    8: ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1:80/TCP'
    9: WorkdirRelativePath: Relative workdir "a\"b" can have unexpected results if the base image changes
    "#);
}

#[test]
fn rules_fire_where_they_should_and_nowhere_else() {
    let none: Vec<&str> = Vec::new();
    for (text, expected) in [
        ("from scratch as a\n", none.clone()),
        ("From scratch As a\n", vec!["ConsistentInstructionCasing:1"]),
        ("FROM scratch\nrun a\nrun b\n", vec!["ConsistentInstructionCasing:1"]),
        ("FROM scratch\nrun a\n", vec!["ConsistentInstructionCasing:2"]),
        ("FROM a:1 AS x\nFROM a:1 AS X\n", vec!["StageNameCasing:2", "DuplicateStageName:2"]),
        // A shell that was chosen is meant.
        ("FROM scratch\nSHELL [\"/x\"]\nCMD a\n", none.clone()),
        ("FROM shelled\nCMD a\n", none.clone()),
        ("FROM scratch AS a\nSHELL [\"/x\"]\nFROM a\nENTRYPOINT b\n", none.clone()),
        ("FROM scratch\nHEALTHCHECK CMD a\n", none.clone()),
        // Only a first WORKDIR matters, and it is inherited.
        ("FROM scratch\nWORKDIR /a\nWORKDIR b\n", none.clone()),
        ("FROM scratch\nWORKDIR a\nWORKDIR b\n", vec!["WorkdirRelativePath:2"]),
        ("FROM scratch AS a\nWORKDIR /a\nFROM a\nWORKDIR b\n", none.clone()),
        ("FROM scratch\nARG d=/x\nWORKDIR $d\n", none.clone()),
        // What does not expand has no value to judge; the build says why.
        ("FROM scratch\nWORKDIR 'a\n", none.clone()),
        // Variables: ENV, ARG, inherited ones, the base's, and arguments without values.
        ("FROM scratch\nARG a\nCOPY $a /\n", none.clone()),
        ("FROM scratch\nENV a=$a\n", vec!["UndefinedVar:2"]),
        ("FROM scratch\nENV a=1\nENV b=$a\n", none.clone()),
        ("FROM scratch AS x\nENV a=1\nFROM x\nUSER $a\n", none.clone()),
        ("FROM scratch AS x\nENV a=1\nFROM scratch\nUSER $a\n", vec!["UndefinedVar:4"]),
        ("ARG g=1\nFROM scratch\nUSER $g\n", vec!["UndefinedVar:3"]),
        ("ARG g=1\nFROM scratch\nARG g\nUSER $g\n", none.clone()),
        ("FROM java\nUSER $JAVA_HOME\n", none.clone()),
        ("FROM scratch\nRUN echo $a\n", none.clone()),
        ("FROM scratch\nRUN --mount=type=cache,target=$a b\n", vec!["UndefinedVar:2"]),
        ("FROM scratch\nCOPY <<E /x\n$a\nE\n", vec!["UndefinedVar:2"]),
        ("FROM scratch\nCOPY <<'E' /x\n$a\nE\n", none.clone()),
        ("FROM scratch\nUSER ${a:-b}\n", vec!["UndefinedVar:2"]),
        // Of an image that nothing is known of, only slips of the pen.
        ("FROM unknown\nUSER $JAVA_HOME\n", none.clone()),
        ("FROM unknown\nENV PATH=$PAHT\n", vec!["UndefinedVar:2"]),
        // Triggers belong to the FROM that runs them, once.
        ("FROM triggering AS a\nFROM a\n", vec!["UndefinedVar:1"]),
        ("FROM scratch AS a\nONBUILD USER $x\nFROM a AS b\nFROM b\n", vec!["UndefinedVar:3"]),
        // FROM sees global arguments and platforms.
        ("FROM a:${TARGETARCH}\n", none.clone()),
        ("ARG v\nFROM a:1${v}\n", none.clone()),
        ("FROM a:1${v}\n", vec!["UndefinedArgInFrom:1"]),
        ("FROM --platform=$p a\n", vec!["UndefinedArgInFrom:1"]),
        ("ARG v\nFROM $v\n", vec!["InvalidDefaultArgInFrom:2"]),
        ("ARG v\nFROM ${v:-a}\n", none.clone()),
        ("FROM --platform=linux/arm64 a AS a-arm64\n", none.clone()),
        ("FROM --platform=linux/$TARGETARCH a\n", none.clone()),
        // The lost instruction is the one to look at; stages do not count together.
        (
            "FROM scratch\nCMD [\"a\"]\nUSER x\nCMD [\"b\"]\nCMD []\n",
            vec!["MultipleInstructionsDisallowed:2", "MultipleInstructionsDisallowed:4"],
        ),
        ("FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n", none.clone()),
        ("FROM scratch\nCMD []\nENTRYPOINT []\nHEALTHCHECK NONE\n", none.clone()),
        // Names of secrets are words between underscores.
        ("FROM scratch\nARG GITHUB_TOKEN\n", vec!["SecretsUsedInArgOrEnv:2"]),
        ("FROM scratch\nENV apiKey=1\n", vec!["SecretsUsedInArgOrEnv:2"]),
        ("FROM scratch\nENV TOKENS=1 KEYBOARD=1 PUBLIC_KEY=1 PASSWORD_FILE=1\n", none.clone()),
        ("ARG TOKEN\nFROM scratch\n", none.clone()),
        // Ignored sources.
        ("FROM scratch\nCOPY a.log /\n", vec!["CopyIgnoredFile:2"]),
        ("FROM scratch\nADD ignored/x https://x/ignored /\n", vec!["CopyIgnoredFile:2"]),
        ("FROM scratch AS a\nFROM scratch\nCOPY --from=a ignored /\n", none.clone()),
        ("FROM scratch\nCOPY . x/ignored /\n", none.clone()),
        ("FROM scratch\nEXPOSE 80 :90 1-2/udp\n", none.clone()),
        // Empty lines are told at the instruction's last line.
        ("FROM scratch\nRUN a \\\n\n b \\\n c\n", vec!["NoEmptyContinuation:5"]),
        ("FROM scratch\nRUN <<E\n\nE\n", none.clone()),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn a_context_that_is_ignored_whole_cannot_be_copied() {
    for (ignore, expected) in [
        ("*", vec!["CopyIgnoredFile:2"]),
        ("**", vec!["CopyIgnoredFile:2"]),
        ("a", vec![]),
        // With exceptions only the files could tell.
        ("*\n!b", vec![]),
        ("", vec![]),
    ] {
        let case = Case { ignore, ..Case::new("FROM scratch\nCOPY . /x\n") };
        assert_eq!(case.found(), expected, "{ignore}");
    }
}

#[test]
fn options_switch_rules_off_and_on() {
    let bad = "FROM scratch AS A\nMAINTAINER x\n";
    for (options, expected, is_error) in [
        ("", vec!["StageNameCasing:2", "MaintainerDeprecated:3"], false),
        ("skip=all", vec![], false),
        ("skip=StageNameCasing;error=true", vec!["MaintainerDeprecated:3"], true),
        ("error=true", vec!["StageNameCasing:2", "MaintainerDeprecated:3"], true),
    ] {
        let text = format!("# check={options}\n{bad}");
        let text = text.replace("check=\n", "checked\n");
        let report = Case::new(&text).report();
        assert_eq!(found(&text), expected, "{options}");
        assert_eq!(report.is_error, is_error, "{options}");
        assert_eq!(report.fails(), is_error && !expected.is_empty(), "{options}");
    }
    let unreadable = Case::new("# check=skpi=all\nFROM scratch\n").report();
    assert_eq!(unreadable.diagnostics.len(), 1);
    assert_eq!(unreadable.diagnostics[0].message, "`skpi` is no check option");
    // A build argument replaces the file's options.
    let args = &[("BUILDKIT_DOCKERFILE_CHECK", "skip=MaintainerDeprecated")];
    let text = format!("# check=skip=all\n{bad}");
    assert_eq!(Case { args, ..Case::new(&text) }.found(), ["StageNameCasing:2"]);
}

#[test]
fn comments_above_an_instruction_count_for_it_alone() {
    let text = "\
FROM scratch
# check=skip=UndefinedVar
USER $a
USER $b
# check=experimental=InvalidDefinitionDescription
# wrong
ARG c
";
    assert_eq!(found(text), ["UndefinedVar:4", "InvalidDefinitionDescription:7"]);
}

#[test]
fn a_build_looks_only_at_what_its_target_needs() {
    let text = "\
FROM scratch AS a
USER $x
FROM scratch AS b
USER $x
FROM scratch AS c
COPY --from=a / /
FROM scratch
USER $x
";
    let lines = |target, scope| Case { target, scope, ..Case::new(text) }.found();
    let undefined = |lines: &[u32]| -> Vec<String> {
        lines.iter().map(|line| format!("UndefinedVar:{line}")).collect()
    };
    assert_eq!(lines(None, Scope::All), undefined(&[2, 4, 8]));
    assert_eq!(lines(None, Scope::Needed), undefined(&[8]));
    assert_eq!(lines(Some("c"), Scope::Needed), undefined(&[2]));
}
