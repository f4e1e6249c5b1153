use std::io::Cursor;

use super::*;

fn parse(text: impl AsRef<[u8]>) -> Result<Vec<Arrival>, TraceError> {
    read_lines(Path::new("some.trace"), Lines::new(Cursor::new(text.as_ref())), usize::MAX)
}

/// Line, column and fault of a trace that must be broken.
fn broken(text: impl AsRef<[u8]>) -> (u64, usize, Fault) {
    match parse(text) {
        Err(TraceError::BrokenLine { line, column, fault, .. }) => (line, column, fault),
        other => panic!("{other:?}"),
    }
}

fn arrival(millis: u64, prompt: u32, output: u32) -> Arrival {
    Arrival { at: Duration::from_millis(millis), prompt, output }
}

const HEADER: &str = "arrived_at,num_prefill_tokens,num_decode_tokens";
const OBJECT: &str = r#"{"timestamp": 5, "input_length": 6, "output_length": 7}"#;

#[test]
fn a_csv_trace_is_read_whatever_the_order_of_its_columns() {
    let expected = [arrival(0, 374, 44), arrival(4_500, 396, 109)];
    assert_eq!(parse(format!("{HEADER}\n0.0,374,44\n4.5,396,109\n")).unwrap(), expected);
    let mixed = "\u{feff}num_decode_tokens, arrived_at ,num_prefill_tokens\r\n44,0,374\r\n\r\n109 , 4.5, 396";
    assert_eq!(parse(mixed).unwrap(), expected);
}

#[test]
fn a_json_trace_is_read_with_and_without_its_block_hashes() {
    let hashed = r#"{"output_length":9,"timestamp":5,"input_length":8,"hash_ids":[1,2,[3]]}"#;
    assert_eq!(parse(format!("{OBJECT}\n{hashed}\n")).unwrap(), [arrival(5, 6, 7), arrival(5, 8, 9)]);
}

#[test]
fn a_limit_leaves_the_rest_of_the_file_unread() {
    let text = format!("{HEADER}\n0,1,1\n1,1,1\nthis is broken\n");
    let lines = || Lines::new(Cursor::new(text.as_bytes()));
    assert_eq!(read_lines(Path::new("x"), lines(), 2).unwrap().len(), 2);
    assert!(read_lines(Path::new("x"), lines(), 3).is_err());
}

#[test]
fn unknown_columns_are_listed_beside_those_that_are_understood() {
    for (first, names) in [
        ("name,cpu_milli,gpu_spec", vec!["name", "cpu_milli", "gpu_spec"]),
        ("arrived_at,num_prefill_tokens", vec!["arrived_at", "num_prefill_tokens"]),
        (
            "arrived_at,num_prefill_tokens,num_decode_tokens,user",
            vec!["arrived_at", "num_prefill_tokens", "num_decode_tokens", "user"],
        ),
        (r#"{"timestamp":1,"tokens":2}"#, vec!["timestamp", "tokens"]),
    ] {
        match parse(first) {
            Err(TraceError::UnknownColumns { line: 1, found, .. }) => assert_eq!(found, names),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        parse("a,b\n1,2").unwrap_err().to_string(),
        "some.trace:1: unknown columns: found a, b; understood are arrived_at, num_prefill_tokens, num_decode_tokens \
         (CSV) or timestamp, input_length, output_length (one JSON object a line)"
    );
}

#[test]
fn a_csv_field_that_is_no_number_is_named_with_its_line_and_column() {
    let fault = |line: &str| {
        let (number, column, fault) = broken(format!("{HEADER}\n0,1,1\n{line}\n2,1,1\n"));
        assert_eq!(number, 3);
        match fault {
            Fault::Field { name, text, .. } => (column, name, text),
            other => panic!("{other:?}"),
        }
    };
    let found = |column, name, text: &str| (column, name, text.to_owned());
    assert_eq!(fault("soon,1,1"), found(1, "arrived_at", "soon"));
    assert_eq!(fault("-1,1,1"), found(1, "arrived_at", "-1"));
    assert_eq!(fault("NaN,1,1"), found(1, "arrived_at", "NaN"));
    assert_eq!(fault("1e300,1,1"), found(1, "arrived_at", "1e300"));
    assert_eq!(fault("1.5, 2.5,1"), found(6, "num_prefill_tokens", "2.5"));
    assert_eq!(fault("1.5,7,"), found(7, "num_decode_tokens", ""));
    assert_eq!(fault("1.5,7,4294967296"), found(7, "num_decode_tokens", "4294967296"));
    assert_eq!(fault("1.5,π,4"), found(5, "num_prefill_tokens", "π"));
    let error = parse(format!("{HEADER}\n0,1,x\n")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "some.trace:2:5: num_decode_tokens is `x`; it must be a whole number of tokens below 2^32"
    );
}

#[test]
fn a_line_with_too_few_or_too_many_fields_is_broken_where_it_ends_or_goes_on() {
    let count = |found| Fault::FieldCount { found, expected: 3 };
    assert_eq!(broken(format!("{HEADER}\n1,2\n")), (2, 4, count(2)));
    assert_eq!(broken(format!("{HEADER}\n1,2,3,4\n")), (2, 7, count(4)));
}

#[test]
fn a_broken_json_line_is_named_with_its_line_and_column() {
    for (line, column, says) in [
        (r#"{"timestamp": 5, "input_length": -6, "output_length": 7}"#, 35, "invalid value: integer `-6`"),
        (r#"{"timestamp": 5, "input_length": "6", "output_length": 7}"#, 36, "invalid type: string \"6\""),
        (r#"{"timestamp": 5, "input_length": 6}"#, 35, "missing field `output_length`"),
        (r#"{"timestamp": 5, "π": 6, "output_length": 7}"#, 20, "unknown field `π`"),
        (r#"{"timestamp": 5, "input_length": 6, "output"#, 43, "EOF while parsing a string"),
        ("5,6,7", 1, "invalid type: integer `5`"),
        (r#"{"timestamp": 5, "input_length": 6, "output_length": 4294967296}"#, 63, "invalid value: integer"),
    ] {
        let (number, found, fault) = broken(format!("{OBJECT}\n\n{line}\n"));
        let text = fault.to_string();
        assert!(text.starts_with(says) && !text.contains("at line"), "{line}: {text}");
        assert_eq!((number, found), (3, column), "{line}");
    }
    assert_eq!(broken("{\"timestamp\": 5").0, 1);
}

#[test]
fn a_request_without_tokens_or_out_of_order_is_broken() {
    assert_eq!(broken(format!("{HEADER}\n0,0,0\n")), (2, 1, Fault::NoTokens));
    let [at, before] = [1, 2].map(Duration::from_secs);
    assert_eq!(broken(format!("{HEADER}\n2,1,1\n1,1,1\n")), (3, 1, Fault::OutOfOrder { at, before }));
}

#[test]
fn bytes_that_are_no_text_and_lines_without_end_are_broken() {
    let mut text = format!("{HEADER}\n0,1,1\nπ,").into_bytes();
    text.extend([0xFF, b'\n']);
    assert_eq!(broken(text), (3, 3, Fault::NotText));
    assert!(matches!(broken(vec![b'x'; 2 << 20]), (1, 1, Fault::TooLong { .. })));
}

#[test]
fn a_file_without_requests_or_without_a_file_is_refused() {
    for empty in ["", "\n\n", HEADER] {
        assert!(matches!(parse(empty), Err(TraceError::Empty { .. })), "{empty:?}");
    }
    let missing = read(Path::new("no/such/file.csv"), 1).unwrap_err();
    assert!(matches!(&missing, TraceError::Io { .. }));
    assert!(missing.to_string().starts_with("no/such/file.csv: "), "{missing}");
}
