CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "metrics" VALUES('val/accuracy',0.7,1795554294300,'4dd6b50376e5448fbfb2bac5091017e2',1,0);
INSERT INTO "metrics" VALUES('train/loss',2.1,1795554294300,'4dd6b50376e5448fbfb2bac5091017e2',1,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.75,1795554294334,'4dd6b50376e5448fbfb2bac5091017e2',2,0);
INSERT INTO "metrics" VALUES('train/loss',1.1,1795554294334,'4dd6b50376e5448fbfb2bac5091017e2',2,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.8,1795554294366,'4dd6b50376e5448fbfb2bac5091017e2',3,0);
INSERT INTO "metrics" VALUES('train/loss',0.7667,1795554294366,'4dd6b50376e5448fbfb2bac5091017e2',3,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.71,1795554294468,'618dfbf48b5d4924a22643fd34be698b',1,0);
INSERT INTO "metrics" VALUES('train/loss',2.1,1795554294468,'618dfbf48b5d4924a22643fd34be698b',1,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.76,1795554294490,'618dfbf48b5d4924a22643fd34be698b',2,0);
INSERT INTO "metrics" VALUES('train/loss',1.1,1795554294490,'618dfbf48b5d4924a22643fd34be698b',2,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.81,1795554294514,'618dfbf48b5d4924a22643fd34be698b',3,0);
INSERT INTO "metrics" VALUES('train/loss',0.7667,1795554294514,'618dfbf48b5d4924a22643fd34be698b',3,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.73,1795554294616,'648fc2dc3aad4ae99d83a6df86469a3c',1,0);
INSERT INTO "metrics" VALUES('train/loss',2.1,1795554294616,'648fc2dc3aad4ae99d83a6df86469a3c',1,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.78,1795554294638,'648fc2dc3aad4ae99d83a6df86469a3c',2,0);
INSERT INTO "metrics" VALUES('train/loss',1.1,1795554294638,'648fc2dc3aad4ae99d83a6df86469a3c',2,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.83,1795554294670,'648fc2dc3aad4ae99d83a6df86469a3c',3,0);
INSERT INTO "metrics" VALUES('train/loss',0.7667,1795554294670,'648fc2dc3aad4ae99d83a6df86469a3c',3,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.6,1795554294764,'0f67874344d24c2981f22de028eea3a7',1,0);
INSERT INTO "metrics" VALUES('train/loss',2.5,1795554294764,'0f67874344d24c2981f22de028eea3a7',1,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.65,1795554294789,'0f67874344d24c2981f22de028eea3a7',2,0);
INSERT INTO "metrics" VALUES('train/loss',1.5,1795554294789,'0f67874344d24c2981f22de028eea3a7',2,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.7,1795554294810,'0f67874344d24c2981f22de028eea3a7',3,0);
INSERT INTO "metrics" VALUES('train/loss',1.1667,1795554294810,'0f67874344d24c2981f22de028eea3a7',3,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.63,1795554294900,'fe4bb3d086bb4a2188e4ab9544ee89cf',1,0);
INSERT INTO "metrics" VALUES('train/loss',2.5,1795554294900,'fe4bb3d086bb4a2188e4ab9544ee89cf',1,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.68,1795554294922,'fe4bb3d086bb4a2188e4ab9544ee89cf',2,0);
INSERT INTO "metrics" VALUES('train/loss',1.5,1795554294922,'fe4bb3d086bb4a2188e4ab9544ee89cf',2,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.73,1795554294942,'fe4bb3d086bb4a2188e4ab9544ee89cf',3,0);
INSERT INTO "metrics" VALUES('train/loss',1.1667,1795554294942,'fe4bb3d086bb4a2188e4ab9544ee89cf',3,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.62,1795554295048,'08434959c190453ea17430e0c164d218',1,0);
INSERT INTO "metrics" VALUES('train/loss',2.5,1795554295048,'08434959c190453ea17430e0c164d218',1,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.67,1795554295064,'08434959c190453ea17430e0c164d218',2,0);
INSERT INTO "metrics" VALUES('train/loss',1.5,1795554295064,'08434959c190453ea17430e0c164d218',2,0);
INSERT INTO "metrics" VALUES('val/accuracy',0.72,1795554295087,'08434959c190453ea17430e0c164d218',3,0);
INSERT INTO "metrics" VALUES('train/loss',1.1667,1795554295087,'08434959c190453ea17430e0c164d218',3,0);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('dropout.p','0.1','4dd6b50376e5448fbfb2bac5091017e2');
INSERT INTO "params" VALUES('seed','0','4dd6b50376e5448fbfb2bac5091017e2');
INSERT INTO "params" VALUES('optimizer','sgd','4dd6b50376e5448fbfb2bac5091017e2');
INSERT INTO "params" VALUES('epochs','3','4dd6b50376e5448fbfb2bac5091017e2');
INSERT INTO "params" VALUES('dropout.p','0.1','618dfbf48b5d4924a22643fd34be698b');
INSERT INTO "params" VALUES('seed','1','618dfbf48b5d4924a22643fd34be698b');
INSERT INTO "params" VALUES('optimizer','sgd','618dfbf48b5d4924a22643fd34be698b');
INSERT INTO "params" VALUES('epochs','3','618dfbf48b5d4924a22643fd34be698b');
INSERT INTO "params" VALUES('dropout.p','0.1','648fc2dc3aad4ae99d83a6df86469a3c');
INSERT INTO "params" VALUES('seed','2','648fc2dc3aad4ae99d83a6df86469a3c');
INSERT INTO "params" VALUES('optimizer','sgd','648fc2dc3aad4ae99d83a6df86469a3c');
INSERT INTO "params" VALUES('epochs','3','648fc2dc3aad4ae99d83a6df86469a3c');
INSERT INTO "params" VALUES('dropout.p','0.5','0f67874344d24c2981f22de028eea3a7');
INSERT INTO "params" VALUES('seed','0','0f67874344d24c2981f22de028eea3a7');
INSERT INTO "params" VALUES('optimizer','sgd','0f67874344d24c2981f22de028eea3a7');
INSERT INTO "params" VALUES('epochs','3','0f67874344d24c2981f22de028eea3a7');
INSERT INTO "params" VALUES('dropout.p','0.5','fe4bb3d086bb4a2188e4ab9544ee89cf');
INSERT INTO "params" VALUES('seed','1','fe4bb3d086bb4a2188e4ab9544ee89cf');
INSERT INTO "params" VALUES('optimizer','sgd','fe4bb3d086bb4a2188e4ab9544ee89cf');
INSERT INTO "params" VALUES('epochs','3','fe4bb3d086bb4a2188e4ab9544ee89cf');
INSERT INTO "params" VALUES('dropout.p','0.5','08434959c190453ea17430e0c164d218');
INSERT INTO "params" VALUES('seed','2','08434959c190453ea17430e0c164d218');
INSERT INTO "params" VALUES('optimizer','sgd','08434959c190453ea17430e0c164d218');
INSERT INTO "params" VALUES('epochs','3','08434959c190453ea17430e0c164d218');
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('4dd6b50376e5448fbfb2bac5091017e2','p0.1-s0','UNKNOWN','','','root','FINISHED',1795554294230,1795554294386,'','active','',1,NULL);
INSERT INTO "runs" VALUES('618dfbf48b5d4924a22643fd34be698b','p0.1-s1','UNKNOWN','','','root','FINISHED',1795554294416,1795554294536,'','active','',1,NULL);
INSERT INTO "runs" VALUES('648fc2dc3aad4ae99d83a6df86469a3c','p0.1-s2','UNKNOWN','','','root','FINISHED',1795554294564,1795554294694,'','active','',1,NULL);
INSERT INTO "runs" VALUES('0f67874344d24c2981f22de028eea3a7','p0.5-s0','UNKNOWN','','','root','FINISHED',1795554294718,1795554294830,'','active','',1,NULL);
INSERT INTO "runs" VALUES('fe4bb3d086bb4a2188e4ab9544ee89cf','p0.5-s1','UNKNOWN','','','root','FINISHED',1795554294852,1795554294970,'','active','',1,NULL);
INSERT INTO "runs" VALUES('08434959c190453ea17430e0c164d218','p0.5-s2','UNKNOWN','','','root','FINISHED',1795554294988,1795554295114,'','active','',1,NULL);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.user','root','4dd6b50376e5448fbfb2bac5091017e2');
INSERT INTO "tags" VALUES('mlflow.source.name','make.py','4dd6b50376e5448fbfb2bac5091017e2');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','4dd6b50376e5448fbfb2bac5091017e2');
INSERT INTO "tags" VALUES('mlflow.runName','p0.1-s0','4dd6b50376e5448fbfb2bac5091017e2');
INSERT INTO "tags" VALUES('mlflow.user','root','618dfbf48b5d4924a22643fd34be698b');
INSERT INTO "tags" VALUES('mlflow.source.name','make.py','618dfbf48b5d4924a22643fd34be698b');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','618dfbf48b5d4924a22643fd34be698b');
INSERT INTO "tags" VALUES('mlflow.runName','p0.1-s1','618dfbf48b5d4924a22643fd34be698b');
INSERT INTO "tags" VALUES('mlflow.user','root','648fc2dc3aad4ae99d83a6df86469a3c');
INSERT INTO "tags" VALUES('mlflow.source.name','make.py','648fc2dc3aad4ae99d83a6df86469a3c');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','648fc2dc3aad4ae99d83a6df86469a3c');
INSERT INTO "tags" VALUES('mlflow.runName','p0.1-s2','648fc2dc3aad4ae99d83a6df86469a3c');
INSERT INTO "tags" VALUES('mlflow.user','root','0f67874344d24c2981f22de028eea3a7');
INSERT INTO "tags" VALUES('mlflow.source.name','make.py','0f67874344d24c2981f22de028eea3a7');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','0f67874344d24c2981f22de028eea3a7');
INSERT INTO "tags" VALUES('mlflow.runName','p0.5-s0','0f67874344d24c2981f22de028eea3a7');
INSERT INTO "tags" VALUES('mlflow.user','root','fe4bb3d086bb4a2188e4ab9544ee89cf');
INSERT INTO "tags" VALUES('mlflow.source.name','make.py','fe4bb3d086bb4a2188e4ab9544ee89cf');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','fe4bb3d086bb4a2188e4ab9544ee89cf');
INSERT INTO "tags" VALUES('mlflow.runName','p0.5-s1','fe4bb3d086bb4a2188e4ab9544ee89cf');
INSERT INTO "tags" VALUES('mlflow.user','root','08434959c190453ea17430e0c164d218');
INSERT INTO "tags" VALUES('mlflow.source.name','make.py','08434959c190453ea17430e0c164d218');
INSERT INTO "tags" VALUES('mlflow.source.type','LOCAL','08434959c190453ea17430e0c164d218');
INSERT INTO "tags" VALUES('mlflow.runName','p0.5-s2','08434959c190453ea17430e0c164d218');
