// Role assignments on an existing Azure OpenAI account. Nothing else on the account changes.
import { user } from 'types.bicep'

param name string

@description('The principals that may call its models.')
param users user[]

// The role Cognitive Services OpenAI User.
var openAIUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'

resource account 'Microsoft.CognitiveServices/accounts@2025-12-01' existing = {
  name: name
}

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

// For an account of the kind AIServices, `endpoint` is another host, which serves other APIs.
output endpoint string = account.properties.endpoints[?'OpenAI Language Model Instance API'] ?? account.properties.endpoint
