// The vault with the caller keys. These are keys of the app: they open its API and nothing in Azure.
import { tagSet, user } from 'types.bicep'

param name string
param location string
param tags tagSet

@secure()
@description('The first caller key, if the vault has none yet.')
param callerKey string

@description('The principals that may read the keys.')
param users user[]

// The role Key Vault Secrets User.
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
  }
}

// Operators edit this secret. The next deployment, with a new random key, leaves it as it is.
@onlyIfNotExists()
resource keys 'Microsoft.KeyVault/vaults/secrets@2026-02-01' = {
  parent: vault
  name: 'caller-keys'
  properties: { contentType: 'name=key pairs, separated by commas', value: 'default=${callerKey}' }
}

resource mayRead 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for user in users: {
    scope: vault
    name: guid(vault.id, user.key, secretsUser)
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
      principalId: user.id
      principalType: user.type
    }
  }
]

output name string = vault.name
output callerKeysReference string = '@Microsoft.KeyVault(VaultName=${vault.name};SecretName=${keys.name})'
