// An app registration whose tokens the app accepts, and the callers that may get them. A deployment of its own, because many
// people who may run `azd up` may not register apps.
targetScope = 'subscription'

extension microsoftGraphV1

@minLength(1)
@maxLength(64)
@description('The name of the registration, and the end of its identifier URI.')
param name string = 'azure-openai-functions'

@description('The object ids of callers: users, groups, and the service principals of apps and managed identities.')
param callers string[] = []

var azureCLI = '04b07795-8ddb-461a-bbee-02f9e1bf7b46'
var role = 'Model.Invoke'
var identifierUri = 'api://${tenant().tenantId}/${name}'

// Entra ID accepts a role and a scope of the same name only if their ids and descriptions are the same, too.
// https://github.com/MicrosoftDocs/azure-docs/issues/81899
var roleId = guid(identifierUri, role)
var title = 'Call the models'
var explanation = 'Call the models. Apps need the role. Users need the role, and their programs the scope.'

resource registration 'Microsoft.Graph/applications@v1.0' = {
  uniqueName: name
  displayName: name
  signInAudience: 'AzureADMyOrg'
  identifierUris: [identifierUri]
  appRoles: [
    {
      id: roleId
      value: role
      displayName: title
      description: explanation
      allowedMemberTypes: ['Application', 'User']
      isEnabled: true
    }
  ]
  api: {
    requestedAccessTokenVersion: 2
    oauth2PermissionScopes: [
      {
        id: roleId
        value: role
        type: 'Admin'
        adminConsentDisplayName: title
        adminConsentDescription: explanation
        isEnabled: true
      }
    ]
    // `az account get-access-token` works without consent.
    preAuthorizedApplications: [{ appId: azureCLI, delegatedPermissionIds: [roleId] }]
  }
}

resource principal 'Microsoft.Graph/servicePrincipals@v1.0' = {
  appId: registration.appId
  // Only assigned callers get a token, and Global Administrators. The app checks the role in any case.
  appRoleAssignmentRequired: true
}

resource mayCall 'Microsoft.Graph/appRoleAssignedTo@v1.0' = [
  for caller in callers: {
    resourceId: principal.id
    appRoleId: roleId
    principalId: caller
  }
]

output callerTenantId string = tenant().tenantId
output callerAudience string = '${identifierUri},${registration.appId}'
output callerRole string = role
