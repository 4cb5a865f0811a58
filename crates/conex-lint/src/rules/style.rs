//! What an image promises to those who run it.

use conex_dockerfile::{Kind, PortSpec};

use super::{Check, Level, PLAIN, Rule, Set};

pub(super) static RULES: &[&Rule] = &[&ODD_PORT, &SYSTEM_WORKDIR, &SYSTEM_VOLUME];

const ODD_PORT: Rule = Rule {
    name: "ExposeOddPort",
    description: "A port for logging in is exposed",
    why: "A container is entered with `exec`, not with SSH, telnet or a remote desktop: a server for that has keys to manage and doors to guard.",
    bad: "FROM debian:13\nEXPOSE 22\n",
    good: "FROM debian:13\nEXPOSE 8080\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        const ODD: [(u16, &str); 6] = [
            (0, "no port"),
            (22, "SSH"),
            (23, "telnet"),
            (2375, "Docker without a password"),
            (3389, "a remote desktop"),
            (5900, "a remote desktop"),
        ];
        for view in context.steps() {
            let Kind::Expose(words) = view.kind() else { continue };
            for word in words {
                let Ok(spec) = PortSpec::parse(&word.raw) else { continue };
                let odd = ODD.iter().find(|(port, _)| (spec.first..=spec.last).contains(port));
                if let Some((port, what)) = odd {
                    sink.add(view.line, word.span, format!("port {port} is {what}"))
                        .hint("expose the port of the image's own service");
                }
            }
        }
    }),
    ..PLAIN
};

const SYSTEM_WORKDIR: Rule = Rule {
    name: "WorkdirInSystem",
    description: "The working directory is one of the system's",
    why: "Files that are copied there lie among the system's own, and one of the same name replaces it.",
    bad: "FROM debian:13\nWORKDIR /usr/bin\n",
    good: "FROM debian:13\nWORKDIR /app\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        const SYSTEM: [&str; 12] = [
            "/bin",
            "/boot",
            "/dev",
            "/etc",
            "/lib",
            "/lib64",
            "/proc",
            "/sbin",
            "/sys",
            "/usr",
            "/usr/bin",
            "/usr/sbin",
        ];
        for view in context.steps() {
            let Kind::Workdir(word) = view.kind() else { continue };
            let path = word.raw.trim_matches('"').trim_end_matches('/');
            if SYSTEM.contains(&path) {
                sink.add(view.line, word.span, format!("`{path}` is a folder of the system"))
                    .hint("choose a folder of its own, such as `/app`");
            }
        }
    }),
    ..PLAIN
};

const SYSTEM_VOLUME: Rule = Rule {
    name: "VolumeInSystem",
    description: "A folder of the system is a volume",
    why: "A volume over `/dev`, `/proc` or `/sys` hides what the kernel shows there, or lets another container change it.",
    bad: "FROM debian:13\nVOLUME /proc\n",
    good: "FROM debian:13\nVOLUME /data\n",
    set: Set::Own,
    level: Level::Warning,
    check: Check::Lint(|context, sink| {
        for view in context.steps() {
            let Kind::Volume(words) = view.kind() else { continue };
            for word in words {
                let path = word.raw.trim_end_matches('/');
                let is_system = ["/dev", "/proc", "/sys"].iter().any(|folder| {
                    path == *folder
                        || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
                });
                if is_system {
                    sink.add(view.line, word.span, format!("`{path}` belongs to the kernel"));
                }
            }
        }
    }),
    ..PLAIN
};
