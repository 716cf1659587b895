// Check Kusto queries, a JSON list on standard input, against the tables of Application Insights. Print the errors in each.
import fs from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
// Both scripts define globals.
require("@kusto/language-service-next/bridge.min.js");
require("@kusto/language-service-next/Kusto.Language.Bridge.min.js");
const { GlobalState, KustoCode, Symbols } = globalThis.Kusto.Language;

// The columns that the queries may use. https://learn.microsoft.com/azure/azure-monitor/app/data-model-complete
const COMMON = "timestamp: datetime, name: string, itemCount: int, customDimensions: dynamic, cloud_RoleName: string";
const TABLES = {
  customMetrics: `(${COMMON}, value: real, valueCount: int, valueSum: real, valueMin: real, valueMax: real)`,
  dependencies: `(${COMMON}, duration: real, success: string, target: string, type: string, operation_Id: string)`,
  requests: `(${COMMON}, duration: real, success: string, resultCode: string, operation_Id: string)`,
  traces: `(${COMMON}, message: string, severityLevel: int, operation_Id: string)`,
};

const tables = Object.entries(TABLES).map(([name, columns]) => Symbols.TableSymbol.From(columns).WithName(name));
const database = new Symbols.DatabaseSymbol.ctor("insights", tables);
const globals = GlobalState.Default.WithDatabase(database);

const errors = JSON.parse(fs.readFileSync(0, "utf8")).map((query) => {
  const diagnostics = KustoCode.ParseAndAnalyze(query, globals).GetDiagnostics();
  return Array.from({ length: diagnostics.Count }, (_, index) => diagnostics.getItem(index).Message);
});
console.log(JSON.stringify(errors));
