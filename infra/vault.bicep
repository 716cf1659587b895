// The vault with the caller keys. These are keys of the app: they open its API and nothing in Azure.
param name string
param location string
param tags object

@secure()
param callerKey string

@description('The principals that may read the keys, each { id, type }.')
param users array

// The role Key Vault Secrets User.
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
  }
}

// azd finds the generated key here, so the next `azd up` generates no other.
resource key 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = {
  parent: vault
  name: 'caller-key'
  properties: { value: callerKey }
}

// The app reads this one. A caller key needs 16 characters, and azd generates 15.
resource keys 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = {
  parent: vault
  name: 'caller-keys'
  properties: { value: 'default=${callerKey}${uniqueString(vault.id)}' }
}

resource mayRead 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for user in users: {
    scope: vault
    name: guid(vault.id, user.id, secretsUser)
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
      principalId: user.id
      principalType: user.type
    }
  }
]

output name string = vault.name
output callerKeysReference string = '@Microsoft.KeyVault(VaultName=${vault.name};SecretName=${keys.name})'
