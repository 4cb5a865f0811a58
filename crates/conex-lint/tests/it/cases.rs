//! Where rules fire and where they do not, beyond their own examples. A mended bug adds a line.

use crate::linting::linted;

/// Codes found in a text, BuildKit's names where there is no code; advice (`style`) left out.
fn found(text: &str) -> Vec<String> {
    let style = conex_lint::Level::Style;
    let findings = linted(text).findings;
    let serious = findings.iter().filter(|one| one.level != style);
    serious.map(|one| format!("{}:{}", one.code, one.span.start.line)).collect()
}

/// Whether a code is found in a step of a file that is otherwise in order.
fn fires(code: &str, step: &str) -> bool {
    let text = format!("FROM debian:13\n{step}\n");
    linted(&text).findings.iter().any(|one| one.code == code)
}

#[test]
fn rules_fire_where_they_should() {
    let wrong: Vec<String> = FIRES
        .iter()
        .flat_map(|(code, steps)| steps.iter().map(move |step| (code, step)))
        .filter(|(code, step)| !fires(code, step))
        .map(|(code, step)| format!("{code} does not fire on {step}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_are_silent_where_nothing_is_wrong() {
    let wrong: Vec<String> = SILENT
        .iter()
        .flat_map(|(code, steps)| steps.iter().map(move |step| (code, step)))
        .filter(|(code, step)| fires(code, step))
        .map(|(code, step)| format!("{code} fires on {step}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const FIRES: &[(&str, &[&str])] = &[
    (
        "DL3014",
        &[
            "RUN sudo apt-get install git",
            "RUN /usr/bin/apt-get install git",
            "RUN DEBIAN_FRONTEND=noninteractive apt-get install git",
            "RUN (apt-get install git)",
            "RUN if true; then apt-get install git; fi",
            "RUN <<EOF\napt-get install git\nEOF",
            "RUN [\"apt-get\", \"install\", \"git\"]",
            "ONBUILD RUN apt-get install git",
            "RUN x=$(apt-get install git)",
            "RUN apt-get -q install git",
        ],
    ),
    (
        "DL3008",
        &[
            "RUN apt-get install -y a=1 b",
            "RUN apt-get -y -t sid install a",
            "RUN apt-get install $A b",
        ],
    ),
    (
        "DL3013",
        &[
            "RUN pip install a",
            "RUN python3 -m pip install a",
            "RUN pip3.12 install 'a[b]'",
            "RUN pip install git+https://x.test/y",
        ],
    ),
    ("DL3018", &["RUN apk add -t .deps gcc", "RUN apk --no-cache add 'a'"]),
    ("DL3042", &["RUN pip install -r x", "ENV PIP_NO_CACHE_DIR=0\nRUN pip install a==1"]),
    ("DL3009", &["RUN apt-get update && apt-get install -y a=1", "RUN apt update"]),
    ("DL3032", &["RUN yum -y install a-1"]),
    ("DL3047", &["RUN wget x", "RUN wget -O - x | cat"]),
    ("DL3059", &["RUN a\nRUN b", "RUN --network=none a\nRUN --network=none b"]),
    ("DL4006", &["RUN a | b", "RUN x=$(a | b)", "SHELL [\"/bin/bash\", \"-c\"]\nRUN a | b"]),
    ("DL3046", &["RUN useradd --uid=123456 a", "RUN groupadd x && useradd -u 1000000 -g x a"]),
    ("DL3002", &["USER root", "USER 0:0", "USER a\nUSER root"]),
    ("SC2086", &["RUN x=$(a) && ls $x", "RUN ls > $X", "RUN ls ${X%.c}"]),
    ("SC2046", &["RUN ls $(cat x)", "RUN ls `cat x`"]),
    ("SC2164", &["RUN cd /a; b", "RUN pushd /a; b"]),
    ("SC2154", &["RUN echo \"$nothing\""]),
    ("SC3037", &["RUN echo -e a", "RUN echo -ne a"]),
    ("SC3010", &["RUN [[ -f a ]] && b", "RUN if [[ a = b ]]; then c; fi"]),
    ("SC3040", &["RUN set -o pipefail", "RUN set -euxo pipefail"]),
    ("SC1072", &["RUN if true; then a", "RUN a && ", "RUN echo 'a", "RUN (a"]),
    ("DL3067", &["COPY --from=debian:13 / /"]),
    ("WorldWritable", &["RUN chmod -R 777 /x", "RUN chmod a+w x", "COPY --chmod=0666 a b"]),
    (
        "PipeToShell",
        &["RUN curl -f x | bash", "RUN wget -qO- x | sudo sh -s", "RUN curl x | python3 -"],
    ),
    (
        "SecretInCommand",
        &["RUN git clone https://u:p@x.test/y", "RUN curl -H 'Authorization: Bearer abcdefghij' x"],
    ),
    (
        "InsecureDownload",
        &[
            "RUN curl -kL x",
            "RUN wget --no-check-certificate x",
            "RUN pip install --trusted-host x y",
        ],
    ),
];

const SILENT: &[(&str, &[&str])] = &[
    (
        "DL3014",
        &[
            "RUN apt-get -qqy install git",
            "RUN apt-get install --yes git",
            "RUN apt-get --assume-yes install git",
            "RUN echo apt-get install git",
            "RUN echo 'apt-get install git'",
            "# apt-get install git\nRUN a",
            "RUN apt-get update",
        ],
    ),
    (
        "DL3008",
        &[
            "RUN apt-get install -y $PACKAGES",
            "RUN apt-get install -y ./a.deb",
            "RUN apt-get install -y a/sid",
            "RUN apt-get -t sid install -y a=1",
        ],
    ),
    (
        "DL3013",
        &[
            "RUN pip install -r x",
            "RUN pip install .",
            "RUN pip install ./a.whl",
            "RUN pip install -e .",
            "RUN pip install 'a>=1'",
            "RUN pip install -i x a==1",
            "RUN pip uninstall a",
        ],
    ),
    (
        "DL3009",
        &[
            "RUN apt-get update && rm -rf /var/lib/apt/lists/*",
            "RUN apt-get update && rm -r /var/lib/apt/lists /var/cache/apt",
            "RUN --mount=type=cache,target=/var/lib/apt apt-get update",
            "RUN --mount=type=tmpfs,target=/var/lib/apt/lists apt-get update",
        ],
    ),
    ("DL3003", &["RUN (cd /a && b)", "RUN x=$(cd /a && pwd)"]),
    (
        "DL3042",
        &[
            "ENV PIP_NO_CACHE_DIR=1\nRUN pip install a==1",
            "RUN pip install a==1 && rm -rf /root/.cache",
        ],
    ),
    (
        "DL3059",
        &[
            "RUN a\n# part two\nCOPY a /b\nRUN b",
            "RUN --network=none a\nRUN b",
            "RUN <<E\na\nE\nRUN b",
        ],
    ),
    (
        "DL4006",
        &[
            "SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN a | b",
            "SHELL [\"/bin/ash\", \"-eo\", \"pipefail\", \"-c\"]\nRUN a | b",
            "RUN set -o pipefail && a | b",
            "RUN echo 'a | b'",
            "RUN a || b",
            "SHELL [\"powershell\"]\nRUN a | b",
        ],
    ),
    (
        "DL3020",
        &["ADD https://x.test/a /b", "ADD a.tar.xz /b", "ADD $A /b", "ADD git@x.test:a.git /b"],
    ),
    ("DL3021", &["COPY a b .", "COPY a b c/", "COPY [\"a\", \"b\", \"c/\"]", "COPY a b"]),
    ("DL3001", &["RUN vim --version", "RUN echo ssh", "RUN apt-get install ssh"]),
    ("DL3027", &["RUN apt-get update", "RUN ./apt-x", "RUN echo apt"]),
    (
        "SC2086",
        &[
            "RUN x=1 && ls $x",
            "RUN ls \"$x\"",
            "RUN y=$x",
            "RUN case $x in a) b;; esac",
            "RUN echo $# $?",
            "RUN for i in a b; do echo $i; done",
            "RUN echo '$x'",
            "RUN ls ${x:+a}",
        ],
    ),
    ("SC2046", &["RUN make -j $(nproc)", "RUN x=$(a)", "RUN ls \"$(a)\""]),
    ("SC2164", &["RUN cd /a && b", "RUN cd /a || exit", "RUN set -e; cd /a; b", "RUN a && cd /b"]),
    (
        "SC2154",
        &[
            "ARG x\nRUN echo \"$x\"",
            "ENV x=1\nRUN echo \"$x\"",
            "RUN read -r x && echo \"$x\"",
            "RUN . /x && echo \"$y\"",
            "RUN echo \"${x:-1}\"",
            "RUN --mount=type=secret,id=a,env=x echo \"$x\"",
        ],
    ),
    (
        "SC2016",
        &["RUN awk '{print $1}' x", "RUN sh -c 'echo $x'", "RUN sed 's/a$/b/' x", "RUN echo '$'"],
    ),
    (
        "SC3010",
        &[
            "SHELL [\"/bin/bash\", \"-c\"]\nRUN [[ -f a ]] && b",
            "RUN [ -f a ] && b",
            "RUN <<EOF\n#!/bin/bash\n[[ -f a ]] && b\nEOF",
        ],
    ),
    (
        "SC1072",
        &[
            "RUN <<EOF\n#!/usr/bin/env python3\nif x:\n  y('\nEOF",
            "SHELL [\"pwsh\"]\nRUN if (a) { b }",
            "RUN [\"if\"]",
            "RUN case x in a) b ;; esac",
            "RUN a() { b; }; a",
        ],
    ),
    ("SC1083", &["RUN find . -exec a {} +", "RUN { a; }", "RUN echo ${a}"]),
    ("WorldWritable", &["RUN chmod 755 /x", "RUN chmod 1777 /tmp", "RUN chmod +x a"]),
    ("SecretInFile", &["ENV AWS=AKIAXXXXXXXXXXXXXXXX", "RUN echo ghp_"]),
    (
        "SecretInCommand",
        &[
            "RUN curl -u \"$U:$P\" x",
            "RUN git clone https://x.test/a@b",
            "RUN curl -H \"Authorization: Bearer $T\" x",
        ],
    ),
];

#[test]
fn realistic_files_have_only_the_findings_that_they_deserve() {
    let none: [&str; 0] = [];
    for (text, expected) in [
        (
            "# syntax=docker/dockerfile:1\nFROM golang:1.25 AS build\nWORKDIR /src\nCOPY go.mod go.sum ./\n\
             RUN --mount=type=cache,target=/go/pkg/mod go mod download\nCOPY . .\n\
             RUN CGO_ENABLED=0 go build -o /out/app ./cmd/app\nFROM scratch\n\
             COPY --from=build /out/app /app\nUSER 65532:65532\nENTRYPOINT [\"/app\"]\n",
            &none[..],
        ),
        (
            "FROM node:24-slim AS deps\nWORKDIR /app\nCOPY package.json package-lock.json ./\nRUN npm ci\n\
             FROM node:24-slim\nWORKDIR /app\nENV NODE_ENV=production\nCOPY --from=deps /app/node_modules ./node_modules\n\
             COPY src ./src\nUSER 1000\nEXPOSE 3000\nHEALTHCHECK CMD [\"node\", \"src/health.js\"]\nCMD [\"node\", \"src/index.js\"]\n",
            &none[..],
        ),
        (
            "FROM debian:13\nRUN set -eux; \\\n    apt-get update; \\\n    apt-get install -y --no-install-recommends \\\n\
             \x20       ca-certificates=2025* \\\n    ; \\\n    rm -rf /var/lib/apt/lists/*\n\
             RUN groupadd -r app && useradd -r -g app app\nUSER 1000\nCMD [\"a\"]\n",
            &none[..],
        ),
        (
            "FROM alpine:3.22\nRUN --mount=type=bind,source=.,target=/src,rw make -C /src\nRUN <<-EOF sh\n\tset -e\n\techo a\n\tEOF\nUSER 1\n",
            &none[..],
        ),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn places_are_exact_through_continuations_and_heredocs() {
    let at = |text: &str, code: &str| {
        let findings = linted(text).findings;
        let one = findings.iter().find(|one| one.code == code).unwrap_or_else(|| panic!("{code}"));
        let (start, end) = (one.span.start, one.span.end);
        (start.line, start.column, end.line, end.column)
    };
    let continued = "FROM debian:13\nRUN a \\\n  # note\n  && apt-get \\\n     install x\n";
    assert_eq!(at(continued, "DL3014"), (5, 6, 5, 13));
    let heredoc = "FROM debian:13\nRUN <<-EOF\n\ta\n\t\tapt-get install x\n\tEOF\n";
    assert_eq!(at(heredoc, "DL3014"), (4, 11, 4, 18));
    let inner = "FROM debian:13\nRUN cat <<EOF | sh -s é \"`a`\"\n$(apt-get install x)\nEOF\n";
    assert_eq!(at(inner, "DL3014"), (3, 11, 3, 18));
    assert_eq!(at(inner, "SC2006"), (2, 26, 2, 29));
    let trigger = "FROM debian:13\nONBUILD  RUN  apt-get install x\n";
    assert_eq!(at(trigger, "DL3014"), (2, 23, 2, 30));
}

#[test]
fn long_files_take_no_longer_than_they_are_long() {
    let commands = vec!["echo $(a $x | b)"; 5_000].join(" && \\\n");
    let steps = "# hadolint ignore=DL3008\nRUN apt-get install x $y `z`\n".repeat(3_000);
    for text in [format!("FROM a:1\nRUN {commands}\n"), format!("FROM a:1\n{steps}")] {
        let start = std::time::Instant::now();
        assert!(linted(&text).findings.len() > 3_000);
        // A hundredfold of what it takes; what grows with the square takes longer.
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }
}

#[test]
fn scripts_in_heredocs_are_read_by_their_own_shell() {
    for (step, expected) in [
        ("RUN <<EOF\ntrue\nls $(x)\nEOF", vec!["SC2046:4:4"]),
        ("RUN <<EOF bash\ntrue\nls $(x)\nEOF", vec!["SC2046:4:4"]),
        ("RUN bash <<'EOF'\nls $(x)\nEOF", vec!["SC2046:3:4"]),
        ("RUN bash -x <<-EOF\n\t\tls $(x)\n\tEOF", vec!["SC2046:3:6"]),
        ("RUN env A=b bash -s -- b <<EOF\nls $(x)\nEOF", vec!["SC2046:3:4"]),
        ("RUN cat <<EOF | sh\nls $(x)\nEOF", vec!["DL4006:2:15", "SC2046:3:4"]),
        ("RUN true && \\\n  sh <<EOF\nls $(x)\nEOF", vec!["SC2046:4:4"]),
        ("RUN <<EOF\nbash <<B\n  ls $(x)\nB\nEOF", vec!["SC2046:4:6"]),
        ("RUN bash <<A && sh <<B\n[[ a ]]\nA\n[[ a ]]\nB", vec!["SC3010:5:1"]),
        // The shell of the first line, and what it was told.
        ("RUN <<EOF\n#!/bin/bash\n[[ a ]]\ncd /a; ls\nEOF", vec!["SC2164:5:1"]),
        ("RUN <<EOF\n#!/usr/bin/env -S bash -e\n[[ a ]]\ncd /a; ls\nEOF", vec![]),
        ("RUN sh -e <<EOF\ncd /a; ls\nEOF", vec![]),
        ("RUN bash -euo pipefail <<EOF\ncd /a; x | y\nEOF", vec![]),
        ("RUN bash <<EOF\nx | y\nEOF", vec!["DL4006:3:3"]),
        ("SHELL [\"bash\", \"-euxo\", \"pipefail\", \"-c\"]\nRUN cd /a; x | y", vec![]),
        // No shells, or no scripts.
        ("RUN <<EOF\n#!/usr/bin/env python3\nx = [[ $(\nEOF", vec![]),
        ("RUN python3 - <<'EOF'\nx = `a` $(b)\nEOF", vec![]),
        ("RUN <<'EOF' python3\nx = `a` $(b)\nEOF", vec![]),
        ("RUN cat <<'EOF' > /x.sh\ncd /a; ls $(x)\nEOF", vec![]),
        ("RUN bash /run.sh <<'EOF'\nls $(x)\nEOF", vec![]),
        ("RUN bash -c 'cat' <<'EOF'\nls $(x)\nEOF", vec![]),
        ("SHELL [\"pwsh\", \"-Command\"]\nRUN <<EOF\ncd a; ls $(x) | y\nEOF", vec![]),
        ("SHELL [\"cmd\", \"/S\", \"/C\"]\nRUN cd C:\\a & ls $(x) | y", vec![]),
        ("FROM mcr.microsoft.com/windows/servercore:ltsc2025\nRUN cd C:\\a & ls | y", vec![]),
    ] {
        let found: Vec<String> = linted(&format!("FROM debian:13\n{step}\n"))
            .findings
            .iter()
            .filter(|one| one.level != conex_lint::Level::Style && one.code != "DL3003")
            .map(|one| format!("{}:{}:{}", one.code, one.span.start.line, one.span.start.column))
            .collect();
        assert_eq!(found, expected, "{step}");
    }
}

#[test]
fn mending_a_heredoc_keeps_the_rest_byte_for_byte() {
    let text = "FROM debian:13\nRUN bash <<-'EOF'   # é\n\t  a=`date`  \n\n\tcd /a;\tls  \n\tEOF\n";
    let fixed = crate::linting::with_options(|options| {
        conex_lint::fix(text, options, conex_lint::Safety::Safe, &|_| true)
    });
    let expected = text.replace("`date`", "$(date)").replace("cd /a;", "cd /a || exit;");
    assert_eq!(fixed.text, expected);
}

#[test]
fn steps_are_mended_as_a_person_would() {
    for (step, expected) in [
        ("RUN cd /src && make", "WORKDIR /src\nRUN make"),
        ("# why\nRUN cd /src \\\n && make", "WORKDIR /src\n# why\nRUN make"),
        ("RUN cd src && make", "RUN cd src && make"),
        ("RUN cd /a; make", "RUN cd /a || exit; make"),
        ("RUN [ \"$A\" == b ]", "RUN [ \"$A\" = b ]"),
        ("RUN echo -e \"a\\nb\" > /x", "RUN printf '%b\\n' \"a\\nb\" > /x"),
        ("RUN echo -n a > /x", "RUN printf '%s' a > /x"),
        // Lists that a later step needs stay.
        (
            "RUN apt-get update -q\nCOPY a /a\nRUN apt-get install -y --no-install-recommends b=1",
            "RUN apt-get update -q\nCOPY a /a\nRUN apt-get install -y --no-install-recommends b=1",
        ),
        (
            "RUN apt-get update -q && x\nCOPY a /a\nRUN apt-get update && y",
            "RUN apt-get update -q && x && rm -rf /var/lib/apt/lists/*\nCOPY a /a\n\
             RUN apt-get update && y && rm -rf /var/lib/apt/lists/*",
        ),
        ("RUN echo -e a b > /x", "RUN echo -e a b > /x"),
        ("RUN set -o pipefail; cat /a | grep b", "RUN set -o pipefail; < /a grep b"),
        (
            "RUN set -o pipefail; cat /a | while read -r b; do c; done",
            "RUN set -o pipefail; cat /a | while read -r b; do c; done",
        ),
        (
            "RUN set -o pipefail; find /a -name 'b' | xargs rm",
            "RUN set -o pipefail; find /a -name 'b' -print0 | xargs -0 rm",
        ),
        (
            "RUN set -o pipefail; find /a -name b -o -name c | xargs rm",
            "RUN set -o pipefail; find /a -name b -o -name c | xargs rm",
        ),
    ] {
        let text = format!("FROM debian:13\n{step}\n");
        let fixed = crate::linting::with_options(|options| {
            conex_lint::fix(&text, options, conex_lint::Safety::Unsafe, &|_| true)
        });
        assert_eq!(fixed.text, format!("FROM debian:13\n{expected}\n"), "{step}");
    }
}

#[test]
fn owners_of_real_files_are_not_bothered() {
    for (code, file) in [
        // Lists of words are meant to be cut.
        ("SC2086", "FROM a:1\nRUN apk add --no-cache $PHPIZE_DEPS"),
        ("SC2086", "FROM a:1\nRUN CONFIG='--a --b' && ./configure $CONFIG && apk add $x"),
        ("SC2086", "FROM a:1\nRUN java $JAVA_OPTS -jar x"),
        // What the file sets is no variable of bash.
        ("SC3028", "FROM a:1\nENV UID=1000\nRUN adduser --uid \"$UID\" x"),
        ("UndefinedVar", "FROM golang:1\nWORKDIR $GOPATH/src"),
        ("DL3000", "# escape=`\nFROM a:1\nWORKDIR C:\\app"),
        ("DL3041", "FROM fedora:40\nRUN dnf install -y 'dnf-command(builddep)'"),
        // Installs that an earlier step has in the cache, and those that keep to their lock file.
        (
            "CopyBeforeInstall",
            "FROM a:1\nRUN uv sync --frozen --no-install-project\nCOPY . .\nRUN uv sync --frozen",
        ),
        (
            "LockFileUnused",
            "FROM a:1 AS b\nENV BUNDLE_DEPLOYMENT=1\nFROM b\nCOPY Gemfile.lock .\nRUN bundle install",
        ),
        (
            "LockFileUnused",
            "FROM a:1\nCOPY Gemfile.lock .\nRUN bundle config set frozen true && bundle install",
        ),
        ("DL3042", "FROM a:1 AS b\nENV PIP_NO_CACHE_DIR=1\nFROM b\nRUN pip install x==1"),
    ] {
        let found = linted(&format!("{file}\n")).findings;
        let is_told = found.iter().any(|one| one.code == code || one.name() == code);
        assert!(!is_told, "{code} on {file}: {found:?}");
    }
    for (code, file) in [
        ("SC2086", "FROM a:1\nRUN x=$(y) && mkdir $x"),
        ("SC2251", "FROM a:1\nRUN set -e; if a; then ! b; fi; c"),
        ("SC1088", "FROM a:1\nRUN apt-get install -y a (b)"),
        ("LockFileUnused", "FROM a:1\nCOPY bun.lock .\nRUN bun install"),
        ("LockFileUnused", "FROM a:1\nCOPY go.mod go.sum ./\nRUN go mod tidy"),
        ("LockFileUnused", "FROM a:1\nCOPY poetry.lock ./\nRUN poetry update"),
    ] {
        let found = linted(&format!("{file}\n")).findings;
        let is_told = found.iter().any(|one| one.code == code || one.name() == code);
        assert!(is_told, "{code} on {file}: {found:?}");
    }
}
