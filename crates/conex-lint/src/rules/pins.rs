//! What is not pinned: images without tags, packages without versions.

use conex_report::Span;

use super::{Check, Fixable, Level, PLAIN, Rule, Set};
use crate::context::{Context, StageView};
use crate::finding::{Edit, Fix, Sink};
use crate::script::{Arg, Cmd, ShellText};

pub(super) static RULES: &[&Rule] = &[
    &IMAGE_TAG,
    &IMAGE_LATEST,
    &IMAGE_DIGEST,
    &APT,
    &PIP,
    &NPM,
    &APK,
    &GEM,
    &YUM,
    &ZYPPER,
    &DNF,
    &GO,
    &CARGO,
];

const IMAGE_TAG: Rule = Rule {
    name: "ImageWithoutTag",
    description: "A base image has no tag",
    why: "Without a tag `latest` is meant, which is whatever was pushed last. The same file gives another image tomorrow.",
    bad: "FROM debian\n",
    good: "FROM debian:13\n",
    codes: &["DL3006"],
    check: Check::Lint(|context, sink| {
        for stage in images(context) {
            if !stage.base.contains('@') && tag(&stage.base).is_none() {
                let message = format!("`{}` has no tag", stage.base);
                let (line, span) = place(stage);
                sink.add(line, span, message).hint("name the version that you mean");
            }
        }
    }),
    ..PLAIN
};

/// Where an image is named.
fn place(stage: &StageView<'_>) -> (u32, Span) {
    (stage.stage.from.span.start.line, stage.stage.base.span)
}

/// Stages that start from an image whose name is known.
fn images<'c, 'a>(context: &'c Context<'a>) -> impl Iterator<Item = &'c StageView<'a>> {
    context.stages.iter().filter(|stage| {
        stage.parent.is_none()
            && !stage.base.is_empty()
            && !context.options.named_contexts.contains(&stage.base)
            && !stage.base.eq_ignore_ascii_case("scratch")
            && !stage.base.contains('$')
            // A name that is made of variables alone is somebody else's choice.
            && !stage.stage.base.raw.starts_with('$')
    })
}

fn tag(image: &str) -> Option<&str> {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split('@').next().unwrap_or(last).split_once(':').map(|(_, tag)| tag)
}

const IMAGE_LATEST: Rule = Rule {
    name: "ImageLatest",
    description: "A base image is `latest`",
    why: "`latest` is whatever was pushed last. The same file gives another image tomorrow, and nobody sees why.",
    bad: "FROM debian:latest\n",
    good: "FROM debian:13\n",
    codes: &["DL3007"],
    check: Check::Lint(|context, sink| {
        for stage in images(context) {
            if !stage.base.contains('@') && tag(&stage.base) == Some("latest") {
                let message = format!("`{}` is whatever was pushed last", stage.base);
                let (line, span) = place(stage);
                sink.add(line, span, message).hint("name the version that you mean");
            }
        }
    }),
    ..PLAIN
};

const IMAGE_DIGEST: Rule = Rule {
    name: "ImageWithoutDigest",
    description: "A base image is named by a tag that can move",
    why: "Tags move, digests do not. With `image:tag@sha256:…` a build is the same until someone changes the line, and what was checked is what is used.",
    bad: "FROM debian:13\n",
    good: "FROM debian:13@sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
    set: Set::Own,
    level: Level::Style,
    experimental: true,
    check: Check::Lint(|context, sink| {
        for stage in images(context).filter(|stage| !stage.base.contains('@')) {
            let message = format!("`{}` has no digest", stage.base);
            let (line, span) = place(stage);
            sink.add(line, span, message).hint("add `@sha256:…`; `conex pull` shows it");
        }
    }),
    ..PLAIN
};

/// One kind of package.
struct Installer {
    tools: &'static [&'static str],
    verbs: &'static [&'static str],
    /// Flags whose value is the next argument.
    valued: &'static [&'static str],
    /// Flags that say which versions are meant.
    pinning: &'static [&'static str],
    is_pinned: fn(&str) -> bool,
    /// The type of its packages, as [`crate::Versions`] names it.
    kind: &'static str,
    /// What is written behind a name for a version.
    pin: fn(&str) -> String,
    hint: &'static str,
}

/// The arguments that are packages: behind the verb, neither flags nor their values, and not made
/// of variables alone, of which nothing is known.
fn packages<'c>(cmd: &'c Cmd, installer: &Installer) -> Vec<&'c Arg> {
    let mut found = Vec::new();
    let mut is_value = false;
    let mut seen_verb = false;
    for arg in &cmd.args {
        let text = arg.text.as_str();
        if std::mem::take(&mut is_value) {
            continue;
        }
        if text.starts_with('-') {
            is_value = installer.valued.contains(&text);
        } else if !seen_verb {
            seen_verb = installer.verbs.contains(&text);
        } else if !text.replace("${VAR}", "").is_empty() {
            found.push(arg);
        }
    }
    found
}

fn unpinned(context: &Context<'_>, sink: &mut Sink<'_>, installer: &Installer) {
    for (view, script, cmd) in context.commands() {
        if !cmd.is_any(installer.tools)
            || !cmd.args.iter().any(|arg| installer.verbs.contains(&arg.text.as_str()))
            || cmd.has_any_flag(installer.pinning)
        {
            continue;
        }
        let loose = loose(cmd, installer);
        if let Some(first) = loose.first() {
            let message = match loose.len() - 1 {
                0 => format!("`{}` has no version", first.text),
                more => format!("`{}` and {more} more have no version", first.text),
            };
            let fix = pinning(context, script, installer, &loose);
            context.within(sink, view, script, first.span, message).hint(installer.hint).fix(fix);
        }
    }
}

/// The packages without a version.
fn loose<'c>(cmd: &'c Cmd, installer: &Installer) -> Vec<&'c Arg> {
    let mut packages = packages(cmd, installer);
    packages.retain(|arg| !(installer.is_pinned)(&arg.text));
    packages
}

/// Pins those of the packages whose versions are known.
fn pinning(
    context: &Context<'_>,
    script: &ShellText,
    installer: &Installer,
    loose: &[&Arg],
) -> Option<Fix> {
    let versions = context.options.versions?;
    let edit = |arg: &&Arg| {
        // `name[extra]`, `name:architecture`
        let name = arg.text.split(['[', ':']).next().filter(|_| arg.is_literal)?;
        let version = versions.of(installer.kind, name)?;
        Some(context.behind(script, arg, (installer.pin)(version)))
    };
    let edits: Vec<Edit> = loose.iter().filter_map(edit).collect();
    (!edits.is_empty()).then(|| Fix::safe("pin to the versions of the image", edits))
}

const APT: Rule = Rule {
    name: "AptPinVersions",
    description: "`apt-get install` without versions",
    why: "Without versions the image holds whatever the mirror has on that day, and a build that worked can fail, or differ, without a change.",
    bad: "FROM debian:13\nRUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*\n",
    good: "FROM debian:13\nRUN apt-get update && apt-get install -y --no-install-recommends git=1:2.47.* && rm -rf /var/lib/apt/lists/*\n",
    codes: &["DL3008"],
    fix: Fixable::FromImage,
    check: Check::Lint(|context, sink| {
        unpinned(
            context,
            sink,
            &Installer {
                tools: &["apt-get"],
                verbs: &["install"],
                valued: &[
                    "-t",
                    "--target-release",
                    "--default-release",
                    "-o",
                    "--option",
                    "-c",
                    "-a",
                ],
                pinning: &[],
                is_pinned: |text| {
                    text.contains(['=', '/']) || text.ends_with(".deb") || is_file(text)
                },
                kind: "dpkg",
                pin: |version| format!("={version}"),
                hint: "write `name=version`; `apt-cache policy name` shows it",
            },
        );
    }),
    ..PLAIN
};

fn is_file(text: &str) -> bool {
    text.starts_with('/') || text.starts_with("./") || text == "." || text.starts_with("../")
}

const PIP: Rule = Rule {
    name: "PipPinVersions",
    description: "`pip install` without versions",
    why: "Without versions the image holds whatever was published last. A lock file with hashes also says where it may come from.",
    bad: "FROM python:3.14\nRUN pip install --no-cache-dir flask\n",
    good: "FROM python:3.14\nRUN pip install --no-cache-dir flask==3.1.2\n",
    codes: &["DL3013"],
    fix: Fixable::FromImage,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands() {
            if !super::packages::is_pip_install(cmd)
                || cmd.has_any_flag(&["requirement", "constraint", "group"])
                || cmd
                    .args
                    .iter()
                    .any(|arg| arg.text.starts_with("-r") || arg.text.starts_with("-c"))
            {
                continue;
            }
            let loose = loose(cmd, &PIP_INSTALL);
            if let Some(first) = loose.first() {
                let message = format!("`{}` has no version", first.text);
                let fix = pinning(context, script, &PIP_INSTALL, &loose);
                let noted = context.within(sink, view, script, first.span, message);
                noted.hint(PIP_INSTALL.hint).fix(fix);
            }
        }
    }),
    ..PLAIN
};

const PIP_INSTALL: Installer = Installer {
    tools: &[],
    verbs: &["install"],
    valued: &[
        "--abi",
        "-b",
        "--build",
        "-e",
        "--editable",
        "--extra-index-url",
        "-f",
        "--find-links",
        "-i",
        "--index-url",
        "--implementation",
        "--log",
        "--no-binary",
        "--only-binary",
        "--platform",
        "--prefix",
        "--progress-bar",
        "--proxy",
        "--python-version",
        "--root",
        "--src",
        "-t",
        "--target",
        "--timeout",
        "--trusted-host",
        "--upgrade-strategy",
        "--cert",
        "--client-cert",
        "--cache-dir",
        "--retries",
        "--exists-action",
        "--config-settings",
        "-C",
        "--global-option",
        "--install-option",
        "--report",
        "--python",
        "--root-user-action",
        "--use-feature",
        "--use-deprecated",
        "--no-build-isolation-package",
    ],
    pinning: &[],
    is_pinned: |text| {
        let text = text.split(';').next().unwrap_or(text);
        ["==", ">=", "<=", "!=", "~=", ">", "<", "@"].iter().any(|sign| text.contains(sign))
            || [".whl", ".tar.gz", ".zip", ".txt"].iter().any(|end| text.ends_with(end))
            || is_file(text)
            || (text.contains("://") && !text.starts_with("git+"))
            || text.starts_with(".[")
            || text.ends_with('/')
    },
    kind: "python",
    pin: |version| format!("=={version}"),
    hint: "write `name==version`, or install from a requirements file with hashes",
};

const NPM: Rule = Rule {
    name: "NpmPinVersions",
    description: "`npm install` of a package without a version",
    why: "Without a version the image holds whatever was published last.",
    bad: "FROM node:24\nRUN npm install -g express\n",
    good: "FROM node:24\nRUN npm install -g express@5.1.0\n",
    codes: &["DL3016"],
    fix: Fixable::FromImage,
    check: Check::Lint(|context, sink| {
        unpinned(
            context,
            sink,
            &Installer {
                tools: &["npm"],
                verbs: &["install", "i", "add"],
                valued: &["--registry", "--prefix", "--cache", "--loglevel", "-C", "--tag", "-w"],
                pinning: &[],
                is_pinned: |text| {
                    let name = text.strip_prefix('@').unwrap_or(text);
                    name.contains('@')
                        || (text.contains("://") && !text.starts_with("git"))
                        || text.contains('#')
                        || [".tgz", ".tar.gz", ".tar"].iter().any(|end| text.ends_with(end))
                        || is_file(text)
                        || text.starts_with('~')
                        || text.ends_with('/')
                        || text.starts_with("${VAR}")
                },
                kind: "npm",
                pin: |version| format!("@{version}"),
                hint: "write `name@version`, or install from a lock file with `npm ci`",
            },
        );
    }),
    ..PLAIN
};

const APK: Rule = Rule {
    name: "ApkPinVersions",
    description: "`apk add` without versions",
    why: "Without versions the image holds whatever the mirror has on that day.",
    bad: "FROM alpine:3.22\nRUN apk add --no-cache git\n",
    good: "FROM alpine:3.22\nRUN apk add --no-cache 'git~2.49'\n",
    codes: &["DL3018"],
    fix: Fixable::FromImage,
    check: Check::Lint(|context, sink| {
        unpinned(
            context,
            sink,
            &Installer {
                tools: &["apk"],
                verbs: &["add"],
                valued: &[
                    "-t",
                    "--virtual",
                    "-X",
                    "--repository",
                    "--repositories-file",
                    "--keys-dir",
                    "-p",
                    "--root",
                    "--arch",
                    "--wait",
                    "--cache-dir",
                    "--cache-max-age",
                    "--progress-fd",
                ],
                pinning: &[],
                is_pinned: |text| {
                    text.contains(['=', '<', '>', '~'])
                        || text.ends_with(".apk")
                        || is_file(text)
                        || text.starts_with('.')
                        || text.starts_with('!')
                },
                kind: "apk",
                pin: |version| format!("={version}"),
                hint: "write `name=version` or `name~version`",
            },
        );
    }),
    ..PLAIN
};

const GEM: Rule = Rule {
    name: "GemPinVersions",
    description: "`gem install` without a version",
    why: "Without a version the image holds whatever was published last.",
    bad: "FROM ruby:3.4\nRUN gem install rails\n",
    good: "FROM ruby:3.4\nRUN gem install rails:8.1.0\n",
    codes: &["DL3028"],
    fix: Fixable::FromImage,
    check: Check::Lint(|context, sink| {
        unpinned(
            context,
            sink,
            &Installer {
                tools: &["gem"],
                verbs: &["install", "i"],
                valued: &["-i", "--install-dir", "-n", "--bindir", "-P", "-s", "--source", "-p"],
                pinning: &["v", "version"],
                is_pinned: |text| text.contains(':') || text.ends_with(".gem"),
                kind: "gem",
                pin: |version| format!(":{version}"),
                hint: "write `name:version`",
            },
        );
    }),
    ..PLAIN
};

/// Whether a name of an RPM has a version: a dash and a digit, a file, or something that the shell
/// makes.
fn is_rpm_pinned(text: &str) -> bool {
    let versioned = text
        .as_bytes()
        .windows(2)
        .any(|pair| matches!(pair, [b'-', digit] if digit.is_ascii_digit()));
    let is_module = text.contains(':') && !text.contains("://");
    versioned
        || is_module
        || text.contains("-${VAR}")
        || text.ends_with(".rpm")
        || text.contains("://")
        || text.contains('=')
        || text.starts_with('@')
        // `dnf-command(builddep)`: what a package provides has no version of its own.
        || text.contains('(')
        || is_file(text)
}

/// The epoch stands before the name in one of the tools and behind it in the other; both go without
/// it.
fn rpm_version(version: &str) -> String {
    format!("-{}", version.rsplit(':').next().unwrap_or(version))
}

const YUM: Rule = Rule {
    name: "YumPinVersions",
    description: "`yum install` without versions",
    why: "Without versions the image holds whatever the mirror has on that day.",
    bad: "FROM centos:7\nRUN yum install -y git && yum clean all\n",
    good: "FROM centos:7\nRUN yum install -y git-1.8.3.1 && yum clean all\n",
    codes: &["DL3033"],
    fix: Fixable::FromImage,
    check: Check::Lint(|context, sink| {
        unpinned(
            context,
            sink,
            &Installer {
                tools: &["yum"],
                verbs: &["install"],
                valued: &[
                    "-c",
                    "--enablerepo",
                    "--disablerepo",
                    "-x",
                    "--exclude",
                    "--installroot",
                ],
                pinning: &[],
                is_pinned: is_rpm_pinned,
                kind: "rpm",
                pin: rpm_version,
                hint: "write `name-version`",
            },
        );
    }),
    ..PLAIN
};

const DNF: Rule = Rule {
    name: "DnfPinVersions",
    description: "`dnf install` without versions",
    why: "Without versions the image holds whatever the mirror has on that day.",
    bad: "FROM fedora:43\nRUN dnf install -y git && dnf clean all\n",
    good: "FROM fedora:43\nRUN dnf install -y git-2.51.0 && dnf clean all\n",
    codes: &["DL3041"],
    fix: Fixable::FromImage,
    check: Check::Lint(|context, sink| {
        unpinned(
            context,
            sink,
            &Installer {
                tools: &["dnf", "microdnf", "dnf5"],
                verbs: &["install"],
                valued: &[
                    "-c",
                    "--enablerepo",
                    "--disablerepo",
                    "-x",
                    "--exclude",
                    "--installroot",
                    "--repo",
                    "--setopt",
                    "--releasever",
                    "--comment",
                    "--advisory",
                ],
                pinning: &[],
                is_pinned: is_rpm_pinned,
                kind: "rpm",
                pin: rpm_version,
                hint: "write `name-version`",
            },
        );
    }),
    ..PLAIN
};

const ZYPPER: Rule = Rule {
    name: "ZypperPinVersions",
    description: "`zypper install` without versions",
    why: "Without versions the image holds whatever the mirror has on that day.",
    bad: "FROM opensuse/leap:16.0\nRUN zypper install -y git && zypper clean\n",
    good: "FROM opensuse/leap:16.0\nRUN zypper install -y 'git=2.51.0' && zypper clean\n",
    codes: &["DL3037"],
    fix: Fixable::FromImage,
    check: Check::Lint(|context, sink| {
        unpinned(
            context,
            sink,
            &Installer {
                tools: &["zypper"],
                verbs: &["install", "in"],
                valued: &["-t", "--type", "-r", "--repo", "--from", "-C", "--capability"],
                pinning: &[],
                is_pinned: |text| {
                    text.contains(['=', '<', '>']) || text.ends_with(".rpm") || is_file(text)
                },
                kind: "rpm",
                pin: |version| format!("={version}"),
                hint: "write `name=version`",
            },
        );
    }),
    ..PLAIN
};

const GO: Rule = Rule {
    name: "GoPinVersions",
    description: "`go install` of a package without a version",
    why: "`@latest` is whatever was tagged last: the same file gives another program tomorrow.",
    bad: "FROM golang:1.25\nRUN go install golang.org/x/tools/gopls@latest\n",
    good: "FROM golang:1.25\nRUN go install golang.org/x/tools/gopls@v0.20.0\n",
    codes: &["DL3062"],
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("go")) {
            if !cmd.verb_is(&["install", "get", "run"]) {
                continue;
            }
            let loose = cmd.plain().skip(1).find(|arg| {
                let is_remote = arg.text.split('/').next().is_some_and(|host| host.contains('.'))
                    && !is_file(&arg.text)
                    && arg.text.contains('/');
                let version = arg.text.split_once('@').map(|(_, version)| version);
                let is_loose = match version {
                    None => !cmd.verb_is(&["get"]) || is_remote,
                    Some(version) => {
                        matches!(version, "latest" | "upgrade" | "patch" | "none" | "")
                    }
                };
                is_remote && is_loose
            });
            if let Some(arg) = loose {
                let message = format!("`{}` names no version", arg.text);
                context.within(sink, view, script, arg.span, message).hint("write `path@v1.2.3`");
            }
        }
    }),
    ..PLAIN
};

const CARGO: Rule = Rule {
    name: "CargoPinVersions",
    description: "`cargo install` of a crate without a version",
    why: "Without a version the image holds whatever was published last, and without `--locked` its dependencies too.",
    bad: "FROM rust:1.90\nRUN cargo install ripgrep\n",
    good: "FROM rust:1.90\nRUN cargo install --locked ripgrep@15.1.0\n",
    set: Set::Own,
    level: Level::Style,
    fix: Fixable::FromImage,
    check: Check::Lint(|context, sink| {
        unpinned(
            context,
            sink,
            &Installer {
                tools: &["cargo"],
                verbs: &["install"],
                valued: &[
                    "--root",
                    "--features",
                    "-F",
                    "--target",
                    "--bin",
                    "--example",
                    "--registry",
                    "--index",
                    "-j",
                    "--jobs",
                    "--profile",
                    "--target-dir",
                    "--config",
                    "--vers",
                ],
                pinning: &["version", "vers", "path", "git", "rev", "tag"],
                is_pinned: |text| text.contains('@'),
                kind: "cargo",
                pin: |version| format!("@{version}"),
                hint: "write `cargo install --locked name@version`",
            },
        );
    }),
    ..PLAIN
};
