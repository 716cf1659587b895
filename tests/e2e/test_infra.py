"""Test what `azd up` would create, with a parser for Bicep: it contains no key, and every setting that the app needs."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from shared.settings import Settings
from tests.support.javascript import NODE_FOLDER, needs_node
from tests.support.processes import PROJECT, Json

INFRA = PROJECT / "infra"
# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = {
    "Cognitive Services OpenAI User": "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
}
ROLES_OF = {
    "app": {"Storage Blob Data Owner", "Storage Table Data Contributor"},
    "model": {"Cognitive Services OpenAI User"},
    "existing-model": {"Cognitive Services OpenAI User"},
    "monitoring": {"Monitoring Metrics Publisher"},
    "vault": {"Key Vault Secrets User"},
}
# Settings of the host and of libraries, below the pages that document them.
FOREIGN_SETTINGS = {
    # https://learn.microsoft.com/azure/azure-functions/functions-reference#configure-an-identity-based-connection
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    # https://learn.microsoft.com/azure/azure-functions/functions-app-settings
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    # https://learn.microsoft.com/python/api/overview/azure/identity-readme#environment-variables
    "AZURE_TOKEN_CREDENTIALS",
}
# Functions and properties that return keys, and parts of connection strings that contain them.
KEYS = re.compile(
    r"\blist\w*(keys|secrets|sas)\w*\(|AccountKey=|SharedAccess|\.key[12]\b|primaryKey|InstrumentationKey", re.IGNORECASE
)

pytestmark = needs_node


def read(*files: Path) -> list[Json]:
    """Return the syntax errors, resources and outputs of each file."""
    command = ["node", "bicep.js", *map(str, files)]
    run = subprocess.run(command, cwd=NODE_FOLDER, capture_output=True, text=True, check=True)
    found: list[Json] = json.loads(run.stdout)
    return found


@pytest.fixture(scope="module")
def modules() -> dict[str, Json]:
    files = sorted(INFRA.glob("*.bicep"))
    return {file.stem: found for file, found in zip(files, read(*files), strict=True)}


def properties(modules: dict[str, Json], module: str, resource: str) -> dict[str, str]:
    found: dict[str, str] = next(item for item in modules[module]["resources"] if item["name"] == resource)["properties"]
    return {name.removeprefix("properties."): value for name, value in found.items()}


def parameters(module: str) -> dict[str, str]:
    """Return the parameters of a module with their defaults. A required parameter has an empty one."""
    text = (INFRA / f"{module}.bicep").read_text()
    return dict(re.findall(r"^param (\w+) \w+(?: = '?([^'\n]*)'?)?$", text, re.MULTILINE))


def test_every_file_is_valid_bicep(modules: dict[str, Json]) -> None:
    assert len(modules) >= 7
    assert {name: module["errors"] for name, module in modules.items() if module["errors"]} == {}


@pytest.mark.parametrize("mistake", ["param a string = {\n", "resource a 'b@c' = \n", "module m 'm' = { params: [ }\n"])
def test_a_syntax_error_is_found(tmp_path: Path, mistake: str) -> None:
    broken = tmp_path / "broken.bicep"
    broken.write_text((INFRA / "model.bicep").read_text() + mistake)
    (found,) = read(broken)
    assert found["errors"]


def test_no_key_is_read_set_or_output(modules: dict[str, Json]) -> None:
    for file in (*INFRA.glob("*"), PROJECT / "azure.yaml"):
        assert not KEYS.search(file.read_text()), file
    outputs = [output for module in modules.values() for output in module["outputs"]]
    assert outputs
    # A reference names the secret that holds the caller keys, and the vault decides who may read it.
    text = "\n".join(outputs).replace("SecretName=", "")
    assert not re.search(r"secret|callerKey\b|password", text, re.IGNORECASE)


def test_resources_that_can_reject_keys_do_so(modules: dict[str, Json]) -> None:
    assert properties(modules, "app", "storage")["allowSharedKeyAccess"] == "false"
    assert properties(modules, "app", "noPasswords")["allow"] == "false"
    assert properties(modules, "model", "account")["disableLocalAuth"] == "true"
    assert properties(modules, "model", "account")["customSubDomainName"] == "name"
    assert properties(modules, "monitoring", "insights")["DisableLocalAuth"] == "true"
    assert properties(modules, "vault", "vault")["enableRbacAuthorization"] == "true"


def test_the_app_runs_on_flex_consumption_with_concurrency(modules: dict[str, Json]) -> None:
    app = properties(modules, "app", "app")
    assert properties(modules, "app", "plan")["sku.name"] == "FC1"
    scale = "functionAppConfig.scaleAndConcurrency"
    assert app[f"{scale}.triggers.http.perInstanceConcurrency"] == "concurrency"
    assert app[f"{scale}.maximumInstanceCount"] == "maximumInstances"
    assert app[f"{scale}.instanceMemoryMB"] == "instanceMemoryMB"
    assert (app["functionAppConfig.runtime.name"], app["functionAppConfig.runtime.version"]) == ("python", "3.13")
    assert app["functionAppConfig.deployment.storage.authentication.type"] == "UserAssignedIdentity"
    assert app["keyVaultReferenceIdentity"] == "identity.id"
    defaults = parameters("main")
    assert int(defaults["concurrency"]) > 1
    assert defaults["alwaysReadyInstances"] == "0"


def test_each_module_assigns_the_expected_roles_only(modules: dict[str, Json]) -> None:
    names = {role_id: name for name, role_id in ROLES.items()}
    guid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    found = {name: {names[role] for role in guid.findall((INFRA / f"{name}.bicep").read_text())} for name in modules}
    assert {name: roles for name, roles in found.items() if roles} == ROLES_OF
    for name in ROLES_OF:
        assignments = [item for item in modules[name]["resources"] if "roleAssignments" in item["type"]]
        assert assignments
        assert all("roleDefinitionId" in str(item) and "principalId" in str(item) for item in assignments)


class TestAppSettings:
    @pytest.fixture
    def app_settings(self, modules: dict[str, Json]) -> dict[str, str]:
        found = properties(modules, "app", "settings")
        assert found.pop("name") == "appsettings"
        return found

    def test_every_setting_exists(self, app_settings: dict[str, str]) -> None:
        example = json.loads((PROJECT / "local.settings.json.example").read_text())
        assert set(app_settings) <= set(example["Values"]) | FOREIGN_SETTINGS

    def test_they_configure_the_app(self, app_settings: dict[str, str]) -> None:
        defaults = parameters("main")
        values = {
            **app_settings,
            "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
            "AZURE_OPENAI_ENDPOINT": "https://one.openai.azure.com/,https://two.openai.azure.com/",
            "AZURE_OPENAI_API_VERSION": defaults["apiVersion"],
            "AZURE_OPENAI_CHATGPT_DEPLOYMENT": defaults["chatModel"],
            "AZURE_OPENAI_DEPLOYMENTS": defaults["embeddingsModel"],
            "CALLER_KEYS": "default=" + "a" * 28,
        }
        settings = Settings.from_env(values, Path("absent.env"))
        assert settings.use_identity
        assert len(settings.endpoints) == 2
        assert settings.warnings == ()

    def test_the_host_signs_in_to_its_storage_with_the_identity(self, app_settings: dict[str, str]) -> None:
        assert app_settings["AzureWebJobsStorage__credential"] == "managedidentity"
        assert app_settings["AzureWebJobsStorage__clientId"] == app_settings["AZURE_CLIENT_ID"]
        assert "AzureWebJobsStorage" not in app_settings
        assert app_settings["AZURE_TOKEN_CREDENTIALS"] == "ManagedIdentityCredential"
        assert app_settings["APPLICATIONINSIGHTS_AUTHENTICATION_STRING"].endswith("Authorization=AAD")

    def test_the_caller_keys_come_from_the_vault(self, app_settings: dict[str, str], modules: dict[str, Json]) -> None:
        assert app_settings["CALLER_KEYS"] == "callerKeysReference"
        assert any("@Microsoft.KeyVault(" in output for output in modules["vault"]["outputs"])


def test_a_second_deployment_keeps_the_caller_key_of_the_first(modules: dict[str, Json]) -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    assert set(given) <= set(parameters("main"))
    assert {name for name, default in parameters("main").items() if not default} <= set(given)
    found = re.fullmatch(r"\$\(secretOrRandomPassword \$\{(\w+)\} ([\w-]+)\)", given["callerKey"]["value"])
    assert found
    assert any(output.startswith(f"output {found[1]} string") for output in modules["main"]["outputs"])
    assert properties(modules, "vault", "key")["name"] == found[2]
    # azd generates 15 characters, and the app requires 16.
    assert "${callerKey}${uniqueString(" in properties(modules, "vault", "keys")["value"]


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_azd_has_the_values_that_the_documentation_reads(modules: dict[str, Json], page: str) -> None:
    names = set(re.findall(r"azd env get-value (\w+)", (PROJECT / page).read_text()))
    assert names <= {output.split()[1] for output in modules["main"]["outputs"]} != set()


def test_azd_finds_the_app_by_its_tag(modules: dict[str, Json]) -> None:
    service = re.search(r"services:\n  (\w+):\n", (PROJECT / "azure.yaml").read_text())
    assert service
    assert f"'azd-service-name': '{service[1]}'" in properties(modules, "app", "app")["tags"]
