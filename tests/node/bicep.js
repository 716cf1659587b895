// Parse Bicep files. Print, as JSON, the lines with syntax errors in each.
import fs from "node:fs";
import Parser from "tree-sitter";
import Bicep from "tree-sitter-bicep";

const parser = new Parser();
parser.setLanguage(Bicep);

function errorLines(node) {
  if (!node.hasError) return [];
  const line = node.isError || node.isMissing ? [node.startPosition.row + 1] : [];
  return [...line, ...node.children.flatMap(errorLines)];
}

const parse = (file) => errorLines(parser.parse(fs.readFileSync(file, "utf8")).rootNode);

console.log(JSON.stringify(process.argv.slice(2).map(parse)));
