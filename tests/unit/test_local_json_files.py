"""Test that `python -m local` reads host.json and local.settings.json as Core Tools and the host do."""

import codecs
import json
from pathlib import Path

import pytest

from local.app_settings import DEFAULT_PORT, HostJson, LocalSettings
from tests.support.processes import PROJECT, Json

PLAIN = '{"IsEncrypted": false, "Values": {"A": "1", "B": "2"}}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "local.settings.json"


def read(file: Path, content: str | bytes | Json) -> LocalSettings:
    text = json.dumps(content) if isinstance(content, dict) else content
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return LocalSettings.read(file)


def read_host_json(file: Path, content: str) -> HostJson:
    file.write_text(content)
    return HostJson.read(file)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "// first\r\n" + PLAIN + " // last",
        "/* first\n * second */" + PLAIN + "/**/ /***/",
        '{"IsEncrypted": /* no */ false, // "Values": {\n "Values": {"A": "1", /* "B": "3" */ "B": "2"}}',
        "//" + "/" * 200 + "\n" + PLAIN.replace(",", ",//" + "/" * 200 + "\n"),
        PLAIN.replace(",", "," + "/* a */ " * 50),
        '{"IsEncrypted": false, "Values": {"A": "1", "B": "2",},}',
        '{"IsEncrypted": false, "Values": {"A": "1", "B": "2", // last\n /* of all */ }, "Lists": [[1,], [2, ], ] , }',
        "{'IsEncrypted': false, 'Values': {'A': '1', 'B': '2'}}",
        "{IsEncrypted: false, Values: {A: '1', B : \"2\"}}",
        '{"isencrypted": "False", "values": {"A": "1", "B": "2"}, "Host": null, "ConnectionStrings": {}}',
        '{"IsEncrypted": 0, "Values": {"A": 1, "B": 2}}',
        codecs.BOM_UTF8 + PLAIN.encode(),
        codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
    ],
)
def test_files_may_have_what_newtonsoft_json_accepts(file: Path, content: str | bytes) -> None:
    settings = read(file, content)
    assert (settings.values, settings.problem) == ({"A": "1", "B": "2"}, "")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"https://a.example/*/b,]//c"', "https://a.example/*/b,]//c"),
        (r'"a\"//b\\"', 'a"//b\\'),
        (r"""'a"b\'c\u00e9\\'""", "a\"b'cé\\"),
        (r'''"it\'s: 'a', b: 1"''', "it's: 'a', b: 1"),
        ('"two\nlines\tand {a: 1,}"', "two\nlines\tand {a: 1,}"),
        (r'"\ud83d\ude00 \ud83d!"', "😀 \ufffd!"),
        ("true", "True"),
        ("false", "False"),
        ("0", "0"),
        ("-20971520", "-20971520"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("200.0", "200"),
        ("0.25", "0.25"),
        ("1e21", "1E+21"),
        ("0.00001", "1E-05"),
        ("null", None),
    ],
)
def test_values_become_text(file: Path, written: str, value: str | None) -> None:
    settings = read(file, f'{{"IsEncrypted": false, "Values": {{"A": {written}}}}}')
    assert (settings.values, settings.problem) == ({"A": value}, "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it holds no JSON object"),
        ("\ufeff \n", "it holds no JSON object"),
        ("// nothing", "it holds no JSON object"),
        ("[]", "it holds no JSON object"),
        ("null", "it holds no JSON object"),
        ('"Values"', "it holds no JSON object"),
        ("not JSON", "it is not valid JSON: Expecting value: line 1 column 1"),
        ("{\n/* a", "it is not valid JSON: Unterminated comment: line 2 column 1"),
        (PLAIN + "\n/*/", "it is not valid JSON: Unterminated comment: line 2 column 1"),
        ("{/*\na\n*/ 1}", "it is not valid JSON: Expecting property name enclosed in double quotes: line 3 column 4"),
        ('{"Values": {"A": "1}}', "it is not valid JSON: Unterminated string"),
        ("{'Values': {'A': '1}}", "it is not valid JSON: "),
        ('{"Values": {"A": "1" "B": "2"}}', "it is not valid JSON: Expecting ',' delimiter: line 1 column 22"),
        ('{"Values": {"A": "1"}', "it is not valid JSON: Expecting ',' delimiter"),
        (PLAIN + PLAIN, "it is not valid JSON: Extra data"),
        (b"\xff\xfe{", "it is not valid JSON: "),
        (b"\xff", "it is not valid JSON: "),
        ('{"Values": ' + "9" * 5000 + "}", "it is not valid JSON: "),
        ("[" * 100_000, "it is nested too deeply"),
        ({"Values": []}, "Values is not an object"),
        ({"Values": "A=1"}, "Values is not an object"),
        ({"Values": False}, "Values is not an object"),
        ({"Values": {"A": "1", "KEYS": ["secret"]}}, "Values.KEYS is not a string, number or boolean"),
        ({"Values": {"A": "1", "KEYS": {"key": "secret"}}}, "Values.KEYS is not a string, number or boolean"),
        ({"IsEncrypted": "no"}, "IsEncrypted is not true or false"),
        ({"IsEncrypted": []}, "IsEncrypted is not a string, number or boolean"),
        ({"Host": []}, "Host is not an object"),
        ({"Host": 7071}, "Host is not an object"),
        *(
            ({"Host": {"LocalHttpPort": port}}, "Host.LocalHttpPort is not a number from 0 to 65535")
            for port in ("http", "70 71", -1, 65536, 70.5, True)
        ),
        ({"Host": {"LocalHttpPort": [7071]}}, "Host.LocalHttpPort is not a string, number or boolean"),
        ({"Host": {"CORS": ["https://a.example"]}}, "Host.CORS is not a string, number or boolean"),
        ({"Host": {"CORSCredentials": "yes"}}, "Host.CORSCredentials is not true or false"),
        ({"Host": {"CORSCredentials": {}}}, "Host.CORSCredentials is not a string, number or boolean"),
    ],
)
def test_a_file_that_cannot_be_read_is_ignored_with_the_reason(file: Path, content: str | bytes | Json, reason: str) -> None:
    if isinstance(content, dict):
        content = {"IsEncrypted": False, "Values": {"B": "2"}, **content}
    settings = read(file, content)
    assert settings.problem.startswith(f"local.settings.json is ignored, because {reason}")
    assert "secret" not in settings.problem
    assert settings == LocalSettings(problem=settings.problem)


def test_a_folder_in_place_of_the_file_is_reported(file: Path) -> None:
    file.mkdir()
    assert LocalSettings.read(file).problem == "local.settings.json is ignored, because it cannot be read: Is a directory."


def test_a_missing_file_has_no_settings(file: Path) -> None:
    assert LocalSettings.read(file) == LocalSettings()


@pytest.mark.parametrize(
    ("host", "port", "cors", "credentials"),
    [
        ({}, DEFAULT_PORT, "", False),
        ({"LocalHttpPort": 0, "CORS": None}, DEFAULT_PORT, "", False),
        ({"LocalHttpPort": None, "CORSCredentials": None}, DEFAULT_PORT, "", False),
        ({"LocalHttpPort": 8080, "CORS": "*", "CORSCredentials": True}, 8080, "*", True),
        (
            {"LocalHttpPort": " 8080 ", "CORS": "https://a.example", "CORSCredentials": "True"},
            8080,
            "https://a.example",
            True,
        ),
        ({"localHttpPort": 8080.0, "cors": "*", "CorsCredentials": 1}, 8080, "*", True),
        ({"LocalHttpPort": 65535, "CORSCredentials": "false"}, 65535, "", False),
    ],
)
def test_the_settings_of_the_host_are_converted(file: Path, host: Json, port: int, cors: str, credentials: bool) -> None:
    settings = read(file, {"Host": host})
    assert (settings.port, settings.cors, settings.cors_credentials) == (port, cors, credentials)
    assert settings.problem == ""


@pytest.mark.parametrize("content", [{}, {"IsEncrypted": None}, {"IsEncrypted": True}, {"IsEncrypted": "true"}])
def test_encrypted_values_are_reported_and_the_settings_of_the_host_remain(file: Path, content: Json) -> None:
    settings = read(file, {**content, "Values": {"A": "1"}, "Host": {"LocalHttpPort": 8080}})
    assert (settings.values, settings.port) == ({}, 8080)
    assert settings.problem.startswith("Failed to decrypt settings.")


def test_values_that_cannot_be_variables_are_skipped() -> None:
    environ: dict[str, str] = {}
    settings = LocalSettings({"": "1", "A=B": "1", "C\0": "1", "D": "1\0", "E": None, "F": "1"})
    settings.add_to(environ)
    assert environ == {"F": "1"}
    assert settings.messages == [
        *(f"Skipping '{name}' because it cannot be an environment variable" for name in ("", "A=B", "C\0", "D")),
        "Skipping 'E' because value is null",
        "1 value(s) from local.settings.json",
    ]


@pytest.mark.parametrize(
    ("content", "prefix", "level"),
    [
        ("{}", "api", "Information"),
        ('{"extensions": null, "logging": {"logLevel": {"default": null}}}', "api", "Information"),
        (
            '{"extensions": {"http": {"routePrefix": "",}}, /* */ "logging": {"logLevel": {"Default": "warning"}}}',
            "",
            "Warning",
        ),
        ("{Extensions: {HTTP: {routeprefix: 'v1'}}, logging: {loglevel: {default: 'None'}}} // end", "v1", "None"),
        ('{"extensions": {"http": {"routePrefix": 1.0}}}', "1", "Information"),
        ('{"extensions": {"http": {"routePrefix": true}}}', "True", "Information"),
        ('{"extensions": {"http": {"routePrefix": null}}}', "", "Information"),
    ],
)
def test_host_json_is_read_with_the_same_tolerance(file: Path, content: str, prefix: str, level: str) -> None:
    assert read_host_json(file, content) == HostJson(prefix, level)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it holds no JSON object"),
        ("[]", "it holds no JSON object"),
        ("{ /* a }", "it is not valid JSON: Unterminated comment: line 1 column 3"),
        ('{"extensions": []}', "extensions is not an object"),
        ('{"extensions": {"http": "api"}}', "extensions.http is not an object"),
        (
            '{"extensions": {"http": {"routePrefix": ["api"]}}}',
            "extensions.http.routePrefix is not a string, number or boolean",
        ),
        ('{"logging": false}', "logging is not an object"),
        ('{"logging": {"logLevel": "Debug"}}', "logging.logLevel is not an object"),
        ('{"logging": {"logLevel": {"default": {}}}}', "logging.logLevel.default is not a string, number or boolean"),
        ('{"logging": {"logLevel": {"default": "Loud"}}}', "logging.logLevel.default is not one of Trace, Debug, "),
        ('{"logging": {"logLevel": {"default": false}}}', "logging.logLevel.default is not one of Trace, Debug, "),
    ],
)
def test_a_host_json_that_cannot_be_used_is_an_error_with_the_reason(file: Path, content: str, reason: str) -> None:
    with pytest.raises(ValueError, match="cannot be used, because ") as raised:
        read_host_json(file, content)
    assert reason in str(raised.value)


def test_a_missing_host_json_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"host\.json cannot be used, because it cannot be read: No such file or directory\."
    ):
        HostJson.read(tmp_path / "host.json")


def test_the_projects_own_files_are_read(tmp_path: Path) -> None:
    assert HostJson.read(PROJECT / "host.json") == HostJson("api", "Information")
    example = LocalSettings.read(PROJECT / "local.settings.json.example")
    assert example.problem == ""
    assert "AZURE_OPENAI_ENDPOINT" in example.values
