// An Azure OpenAI account that accepts no keys, its deployments, and the role assignments for their users.
import { deployment, tagSet, user } from 'types.bicep'

param name string
param location string
param tags tagSet

param deployments deployment[]

@description('The capacity of each deployment, in units of 1,000 tokens and 1 request a minute.')
param capacity int

@description('Where a deployment may process data, and how it is billed, for example GlobalStandard.')
param sku string

@description('The principals that may call the models.')
param users user[]

// The role Cognitive Services OpenAI User.
var openAIUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'

resource account 'Microsoft.CognitiveServices/accounts@2025-12-01' = {
  name: name
  location: location
  tags: tags
  kind: 'OpenAI'
  sku: { name: 'S0' }
  properties: {
    // Azure accepts Entra tokens only on an account's own subdomain.
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: 'Enabled'
  }
}

// In sequence, because an account accepts one change at a time.
@batchSize(1)
resource models 'Microsoft.CognitiveServices/accounts/deployments@2025-12-01' = [
  for item in deployments: {
    parent: account
    name: item.name
    sku: { name: sku, capacity: capacity }
    properties: {
      model: { format: 'OpenAI', name: item.model, version: empty(item.version) ? null : item.version }
      versionUpgradeOption: 'OnceCurrentVersionExpired'
    }
  }
]

resource mayUse 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for user in users: {
    scope: account
    name: guid(account.id, user.key, openAIUser)
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', openAIUser)
      principalId: user.id
      principalType: user.type
    }
  }
]

output name string = account.name
output endpoint string = account.properties.endpoint
