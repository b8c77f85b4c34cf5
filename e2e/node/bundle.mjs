// Bundles an entry with the packages of this folder, for a browser or for Node.
//
//	node bundle.mjs ENTRY OUTPUT browser|node
import { build } from 'esbuild';

const [entry, outfile, platform] = process.argv.slice(2);
await build({
  entryPoints: [entry],
  outfile,
  platform,
  bundle: true,
  format: platform === 'node' ? 'cjs' : 'esm',
  jsx: 'automatic',
  nodePaths: ['node_modules'],
  define: { 'process.env.NODE_ENV': '"production"' },
  logLevel: 'warning',
});
