//! Compressed streams: the same bytes on any number of threads, read by others, bounded.

use std::ffi::OsStr;
use std::io::{self, Read, Write as _};

use conex_layer::{Decoder, Encoded, Encoder, EncoderOptions, Format, Hashing, sniff};
use conex_oci::{Compression, Digest};

use crate::support::*;

/// Some megabytes that compress like text, with stretches that do not.
fn sample(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut bytes = Vec::with_capacity(size + 64);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        if bytes.len() >> 18 & 3 == 3 {
            bytes.extend_from_slice(&state.to_le_bytes());
        } else {
            writeln!(bytes, "line {} of {}", state % 977, state % 13).unwrap();
        }
    }
    bytes.truncate(size);
    bytes
}

fn encoded(bytes: &[u8], options: &EncoderOptions, piece: usize) -> (Vec<u8>, Encoded) {
    let mut encoder = Encoder::new(Vec::new(), options).unwrap();
    for piece in bytes.chunks(piece) {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap()
}

fn with(compression: Compression, thread_count: usize) -> EncoderOptions {
    EncoderOptions { compression, level: None, thread_count, hash: Hashing::DiffId }
}

fn decoded(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = Decoder::new(&mut bytes).map_err(io::Error::from)?;
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain)?;
    Ok(plain)
}

#[test]
fn bytes_depend_neither_on_threads_nor_on_the_sizes_of_writes() {
    for size in [0, 1, 1 << 20, (1 << 20) + 1, 9_000_000] {
        let plain = sample(size);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let (wanted, summary) = encoded(&plain, &with(compression, 1), 1 << 30);
            assert_eq!(summary.diff_id.as_ref().unwrap().0, Digest::of(&plain));
            let sizes = (summary.unpacked_size, summary.size);
            assert_eq!(sizes, (size as u64, wanted.len() as u64));
            for (thread_count, piece) in [(2, 1000), (3, 1 << 20), (8, 777_777)] {
                let (bytes, again) = encoded(&plain, &with(compression, thread_count), piece);
                assert!(bytes == wanted && again == summary, "{compression:?} {thread_count}");
            }
            assert!(decoded(&wanted).unwrap() == plain, "{compression:?} {size}");
        }
    }
}

#[test]
fn gzip_is_one_member_as_every_reader_expects() {
    let plain = sample(5_000_000);
    let (bytes, _) = encoded(&plain, &with(Compression::Gzip, 2), 1 << 16);
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    let mut once = Vec::new();
    // This decoder reads one member and stops.
    let mut reader = flate2::bufread::GzDecoder::new(bytes.as_slice());
    reader.read_to_end(&mut once).unwrap();
    assert!(once == plain && reader.into_inner().is_empty());
    let scratch = Scratch::new();
    std::fs::write(scratch.path("x.gz"), &bytes).unwrap();
    let path = scratch.path("x.gz");
    let args: [&OsStr; 2] = ["-dc".as_ref(), path.as_ref()];
    if let Some(output) = run("gzip", &args) {
        assert!(output.status.success() && output.stderr.is_empty() && output.stdout == plain);
    }
}

#[test]
fn every_level_reads_back_and_wrong_ones_are_refused() {
    let plain = sample(1_500_000);
    for (compression, levels, wrong) in
        [(Compression::Gzip, [1, 6, 12], [0, 13]), (Compression::Zstd, [1, 3, 19], [0, 23])]
    {
        for level in levels {
            let options = EncoderOptions { level: Some(level), ..with(compression, 2) };
            assert!(decoded(&encoded(&plain, &options, 4096).0).unwrap() == plain);
        }
        for level in wrong {
            let options = EncoderOptions { level: Some(level), ..with(compression, 2) };
            assert!(Encoder::new(Vec::new(), &options).is_err());
        }
    }
    let options = EncoderOptions { hash: Hashing::None, ..with(Compression::Gzip, 1) };
    assert_eq!(encoded(&plain, &options, 4096).1.diff_id, None);
}

#[test]
fn formats_are_known_by_content_and_several_streams_are_one() {
    let plain = sample(300_000);
    let (gzip, _) = encoded(&plain, &with(Compression::Gzip, 1), 1 << 20);
    let (zstd, _) = encoded(&plain, &with(Compression::Zstd, 1), 1 << 20);
    let mut bzip2 = Vec::new();
    bzip2::read::BzEncoder::new(plain.as_slice(), bzip2::Compression::best())
        .read_to_end(&mut bzip2)
        .unwrap();
    let mut xz = Vec::new();
    liblzma::read::XzEncoder::new(plain.as_slice(), 6).read_to_end(&mut xz).unwrap();
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd].concat();
    for (format, bytes, skipped) in [
        (Format::Gzip, &gzip, false),
        (Format::Zstd, &zstd, false),
        (Format::Zstd, &skippable, true),
        (Format::Bzip2, &bzip2, false),
        (Format::Xz, &xz, false),
        (Format::Plain, &plain, true),
    ] {
        assert_eq!(sniff(bytes), format);
        assert!(decoded(bytes).unwrap() == plain, "{format:?}");
        if !skipped {
            let twice = [bytes.as_slice(), bytes].concat();
            assert!(decoded(&twice).unwrap() == [plain.as_slice(), &plain].concat(), "{format:?}");
            for len in [bytes.len() / 2, bytes.len() - 1, 8] {
                assert!(decoded(&bytes[..len]).is_err(), "{format:?} cut at {len}");
            }
            let mut wrong = bytes.clone();
            let middle = wrong.len() / 2;
            wrong[middle] ^= 0x55;
            assert!(decoded(&wrong).map_or(true, |bytes| bytes != plain), "{format:?}");
        }
    }
    for short in [&b""[..], b"\x1f", b"\x1f\x8b", b"BZ", b"\x28\xb5\x2f"] {
        assert_eq!(decoded(short).unwrap(), short);
    }
}

#[test]
fn a_reader_that_verifies_has_seen_everything() {
    let plain = sample(100_000);
    let (mut bytes, _) = encoded(&plain, &with(Compression::Zstd, 1), 1 << 20);
    let blob = conex_oci::Descriptor::of(conex_oci::MediaType::Empty, &bytes);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut verified = conex_oci::VerifyReader::new(bytes.as_slice(), &blob);
    let mut decoder = Decoder::new(&mut verified).unwrap();
    assert!(decoder.read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn bombs_are_cut_off_while_they_unpack() {
    // Zeros compress some thirty thousand times in zstd; more than two thousand is not believed.
    let mut bomb = Vec::new();
    let mut encoder = zstd::stream::write::Encoder::new(&mut bomb, 3).unwrap();
    io::copy(&mut io::repeat(0).take(3 << 30), &mut encoder).unwrap();
    encoder.finish().unwrap();
    let mut input = bomb.as_slice();
    let mut decoder = Decoder::new(&mut input).unwrap();
    let copied = io::copy(&mut decoder, &mut io::sink());
    assert!(copied.unwrap_err().to_string().contains("2000 times"));
}
