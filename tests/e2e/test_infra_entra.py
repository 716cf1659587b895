"""Test the app registration that infra/entra would create, with Microsoft's Bicep compiler."""

import json
import re
from pathlib import Path

import pytest

from tests.support.bicep import INFRA, TENANT, bicep, copy_of_entra, needs_bicep, snapshot
from tests.support.processes import Json

USER, IDENTITY = "11111111-1111-1111-1111-111111111111", "66666666-6666-6666-6666-666666666666"
# https://learn.microsoft.com/troubleshoot/entra/entra-id/governance/verify-first-party-apps-sign-in
AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
pytestmark = needs_bicep


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_entra(tmp_path_factory.mktemp("entra"))


@pytest.fixture(scope="module")
def found(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Return what a deployment for two callers would create."""
    values = {"name": "gateway", "callers": [USER, IDENTITY]}
    result, error = snapshot(tmp_path_factory.mktemp("snapshot"), values, template)
    assert not error, error
    return result


def properties(found: Json, kind: str) -> list[Json]:
    return [item["properties"] for item in found["predictedResources"] if item["type"] == f"Microsoft.Graph/{kind}@v1.0"]


def test_it_compiles_without_a_warning(template: Path) -> None:
    for run in (bicep("build", template, "--stdout"), bicep("lint", template)):
        assert (run.returncode, run.stderr) == (0, "")


def test_a_warning_is_found(tmp_path: Path) -> None:
    template = copy_of_entra(tmp_path)
    with template.open("a") as file:
        file.write("param unused object\n")
    run = bicep("lint", template)
    assert {"no-unused-params", "use-user-defined-types"} <= set(re.findall(r"Warning ([\w-]+):", run.stderr))


def test_apps_and_users_may_have_the_role_and_users_sign_in_with_the_azure_cli(found: Json) -> None:
    (registration,) = properties(found, "applications")
    assert registration["signInAudience"] == "AzureADMyOrg"
    assert registration["identifierUris"] == [f"api://{TENANT}/gateway"]
    (role,) = registration["appRoles"]
    assert role["allowedMemberTypes"] == ["Application", "User"]
    assert role["isEnabled"] is True
    api = registration["api"]
    assert api["requestedAccessTokenVersion"] == 2
    (scope,) = api["oauth2PermissionScopes"]
    assert api["preAuthorizedApplications"] == [{"appId": AZURE_CLI, "delegatedPermissionIds": [scope["id"]]}]
    assert not {"passwordCredentials", "keyCredentials"} & set(registration)


def test_the_role_and_the_scope_are_the_same_as_entra_id_demands(found: Json) -> None:
    (registration,) = properties(found, "applications")
    (role,), (scope,) = registration["appRoles"], registration["api"]["oauth2PermissionScopes"]
    assert role["value"] == "Model.Invoke"
    for name in ("id", "value", "isEnabled"):
        assert role[name] == scope[name]
    assert role["displayName"] == scope["adminConsentDisplayName"]
    assert role["description"] == scope["adminConsentDescription"]


def test_only_callers_with_the_role_get_tokens(found: Json) -> None:
    (principal,) = properties(found, "servicePrincipals")
    assert principal == {"appId": "[reference('registration').appId]", "appRoleAssignmentRequired": True}
    ((role,),) = (registration["appRoles"] for registration in properties(found, "applications"))
    assert properties(found, "appRoleAssignedTo") == [
        {"resourceId": "[reference('principal').id]", "appRoleId": role["id"], "principalId": caller}
        for caller in (USER, IDENTITY)
    ]


def test_nobody_may_call_by_default(template: Path, tmp_path: Path) -> None:
    found, error = snapshot(tmp_path, {}, template)
    assert not error
    assert len(found["predictedResources"]) == 2


def test_its_outputs_are_parameters_of_the_deployment(found: Json) -> None:
    outputs = found["outputs"]
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    assert outputs == {
        "callerTenantId": TENANT,
        "callerAudience": f"[format('{{0}},{{1}}', 'api://{TENANT}/gateway', reference('registration').appId)]",
        "callerRole": "Model.Invoke",
    }
    assert given["callerRole"]["value"] == f"${{CALLER_ROLE={outputs['callerRole']}}}"
    assert set(outputs) <= set(given)
